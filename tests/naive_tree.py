"""RFC 6962 section 2.1 word for word, over lists of leaves: slow, and nothing to get wrong."""

from hashlib import sha256


def _split(leaves):
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return leaves[:k], leaves[k:]


def tree_hash(leaves):
    """MTH."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    left, right = _split(leaves)
    return sha256(b"\x01" + tree_hash(left) + tree_hash(right)).digest()


def path(m, leaves):
    """PATH: the audit path of leaf m."""
    if len(leaves) == 1:
        return []
    left, right = _split(leaves)
    if m < len(left):
        return [*path(m, left), tree_hash(right)]
    return [*path(m - len(left), right), tree_hash(left)]


def proof(m, leaves):
    """PROOF: of consistency with the first m leaves, 0 < m < n."""
    return _subproof(m, leaves, True)


def _subproof(m, leaves, whole):
    if m == len(leaves):
        return [] if whole else [tree_hash(leaves)]
    left, right = _split(leaves)
    if m <= len(left):
        return [*_subproof(m, left, whole), tree_hash(right)]
    return [*_subproof(m - len(left), right, False), tree_hash(left)]
