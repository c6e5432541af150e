CREATE OR REPLACE FUNCTION uuid7(at timestamptz DEFAULT clock_timestamp()) RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT encode(substring(int8send(us / 1000) FROM 3)
        || substring(int4send((28672 + us % 1000 * 4096 / 1000)::integer) FROM 3) -- 0x7000: the version
        || substring(uuid_send(gen_random_uuid()) FROM 9), 'hex')::uuid
    FROM (SELECT (extract(epoch FROM at) * 1000000)::bigint AS us) t
$$;
DROP FUNCTION IF EXISTS enqueue_keyless, uuid7_counted, random_bits;
