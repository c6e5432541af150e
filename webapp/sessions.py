"""Sessions: tokens told apart, and cookies that stand for one."""

import hashlib
import hmac
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from itsdangerous import BadSignature, URLSafeTimedSerializer

from cluster.settings import Token

LASTS = timedelta(hours=12)


class Sessions:
    """The tokens of the service. Every process makes the same of them, and keeps nothing else.

    Args:
        tokens: none: everything is open.
    """

    def __init__(self, tokens: Sequence[Token] = ()) -> None:
        # Each signs with its own secret, so that a changed one ends its sessions and no others.
        self._signers = [(token, _signer(token.secret)) for token in tokens]

    @property
    def needed(self) -> bool:
        """Whether one has to have a token."""
        return bool(self._signers)

    def holder(self, secret: str) -> Token | None:
        """Return the token with this secret, in a time that tells nothing of the others."""
        given = secret.encode()
        same = [
            token for token, _ in self._signers if hmac.compare_digest(given, token.secret.encode())
        ]
        return same[0] if same else None

    def cookie(self, token: Token) -> str:
        """Return what a browser keeps in place of the token."""
        signer = next(signer for each, signer in self._signers if each == token)
        return str(signer.dumps(token.name))

    def of(self, cookie: str) -> Token | None:
        """Return the token that a cookie stands for, as it is now; None if it is over or forged."""
        for token, signer in self._signers:
            try:
                name, begun = signer.loads(cookie, return_timestamp=True)
            except BadSignature:
                continue
            # Hosts differ by a second, so one from the future is fine; nobody else can sign.
            if name == token.name and datetime.now(UTC) - begun < LASTS:
                return token
        return None


def _signer(secret: str) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(
        secret, salt="ronin session", signer_kwargs={"digest_method": hashlib.sha256}
    )
