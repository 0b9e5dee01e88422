"""Seeds derived from (seed, purpose, …), so that random draws do not depend on earlier ones."""

import hashlib


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, e.g. `derive_seed(0, "shuffle", epoch)`.

    Different purposes give unrelated seeds; the same arguments always give the same one.
    """
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
