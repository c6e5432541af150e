DROP TABLE IF EXISTS question, log_chunk;
