"""The frozen bit law, version 1, in NumPy: Philox4x32-10, signs, uniforms, Gaussians and permutations of a stream.

NumPy computes one operation at a time, so nothing is contracted into a fused multiply-add and equal bits are expected.
"""

import numpy as np

_LOW = np.uint64(0xFFFFFFFF)
_MASK64 = (1 << 64) - 1

FAMILY = {
    "gaussian": 1,
    "rademacher": 2,
    "srht": 3,
    "sparse_sign": 4,
    "long_axis": 5,
    "leverage": 6,
    "tensor_sketch": 7,
    "tensor_srht": 8,
    "noise": 9,
    "features": 10,
    "dct": 11,
}


def mix64(z):
    """The finaliser of SplitMix64 over z plus the golden-ratio increment."""
    z = (z + 0x9E3779B97F4A7C15) & _MASK64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK64
    return z ^ (z >> 31)


def stream_key(seed, family):
    """Key of a stream: the seed mixed with the family and version 1 of the law."""
    return seed ^ mix64(65536 * FAMILY[family] + 1)


def philox(counter, key):
    """Four uint32 arrays from four (uint64 arrays that hold 32 bits) and a 64-bit key."""
    x0, x1, x2, x3 = (np.asarray(word, dtype=np.uint64) for word in counter)
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        p0, p1 = x0 * np.uint64(0xD2511F53), x2 * np.uint64(0xCD9E8D57)
        high0, high1 = p0 >> np.uint64(32), p1 >> np.uint64(32)
        x0, x1, x2, x3 = high1 ^ x1 ^ np.uint64(k0), p1 & _LOW, high0 ^ x3 ^ np.uint64(k1), p0 & _LOW
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(np.broadcast_arrays(x0, x1, x2, x3), axis=-1)


class Stream:
    """One named stream of draws."""

    def __init__(self, seed, family, tag=0, factor=0, generation=0):
        self.key = stream_key(seed, family)
        self.word = tag | factor << 8 | generation << 16

    def blocks(self, j, b):
        """128 bits (last axis: four words) of draw block b at index j."""
        j, b = np.broadcast_arrays(np.asarray(j, dtype=np.uint64), np.asarray(b, dtype=np.uint64))
        word = np.full(j.shape, self.word, dtype=np.uint64)
        return philox((j & _LOW, j >> np.uint64(32), word, b), self.key)

    def _pairs(self, j, b, which):
        blocks = self.blocks(j, b)
        low = np.where(which == 0, blocks[..., 0], blocks[..., 2])
        high = np.where(which == 0, blocks[..., 1], blocks[..., 3])
        return low | high << np.uint64(32)

    def pair(self, j, b=0, which=0):
        """Word pair `which` of draw block b at index j, as a 64-bit word."""
        return self._pairs(np.asarray(j, dtype=np.uint64), np.asarray(b, dtype=np.uint64), np.asarray(which))

    def gaussian(self, i, j):
        """Standard normal entries (i, j)."""
        i, j = np.broadcast_arrays(np.asarray(i, dtype=np.uint64), np.asarray(j, dtype=np.uint64))
        return normal_quantile(uniform52(self._pairs(j, i // np.uint64(2), i % np.uint64(2))))

    def sign(self, i, j):
        """Entries (i, j) of +1 and -1."""
        i, j = np.broadcast_arrays(np.asarray(i, dtype=np.uint64), np.asarray(j, dtype=np.uint64))
        return _bit_sign(self.blocks(j, i // np.uint64(128)), i % np.uint64(128))

    def row_sign(self, j):
        """+1 or -1 of index j."""
        j = np.asarray(j, dtype=np.uint64)
        return _bit_sign(self.blocks(j // np.uint64(128), 0), j % np.uint64(128))

    def uniform(self, i):
        """Uniform numbers in (0, 1)."""
        i = np.asarray(i, dtype=np.uint64)
        return uniform52(self._pairs(i // np.uint64(2), np.uint64(0), i % np.uint64(2)))

    def permute(self, n, q):
        """Where q goes under the keyed permutation of [0, n)."""
        bits = max(8, (n - 1).bit_length())
        left_bits = bits // 2
        right_bits = bits - left_bits
        x = q
        while True:
            left, right = x >> right_bits, x & ((1 << right_bits) - 1)
            for step in range(8):
                word = int(self.blocks(right if step % 2 == 0 else left, step)[0])
                if step % 2 == 0:
                    left ^= word & ((1 << left_bits) - 1)
                else:
                    right ^= word & ((1 << right_bits) - 1)
            x = left << right_bits | right
            if x < n:
                return x


def _bit_sign(blocks, t):
    words = np.take_along_axis(blocks, (t // np.uint64(32)).astype(np.int64)[..., np.newaxis], axis=-1)[..., 0]
    return 1.0 - 2.0 * ((words >> (t % np.uint64(32))) & np.uint64(1)).astype(np.float64)


def uniform52(word):
    """(k + 1/2) 2^-52 with k the upper 52 bits of a 64-bit word."""
    return ((word >> np.uint64(12)) * np.uint64(2) + np.uint64(1)).astype(np.float64) * 2.0**-53


def portable_log(p):
    """Natural logarithm by the series of atanh, in a fixed order of IEEE operations."""
    p = np.asarray(p, dtype=np.float64)
    bits = p.view(np.int64)
    e = (bits - np.int64(0x3FE6A09E667F3BCD)) >> np.int64(52)
    m = (bits - (e << np.int64(52))).view(np.float64)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    series = np.full_like(z, 1.0 / 21.0)
    for odd in (19, 17, 15, 13, 11, 9, 7, 5, 3, 1):
        series = series * z + 1.0 / odd
    e = e.astype(np.float64)
    return e * float.fromhex("0x1.62e42fee00000p-1") + (e * float.fromhex("0x1.a39ef35793c76p-33") + (2.0 * s) * series)


# Wichura's AS 241 (PPND16): numerators and denominators, highest power first.
_CENTRE = (
    (2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
     1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0),
    (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
     5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0),
)  # fmt: skip
_NEAR = (
    (7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258e0,
     3.64784832476320460504e0, 5.76949722146069140550e0, 4.63033784615654529590e0, 1.42343711074968357734e0),
    (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
     6.89767334985100004550e-1, 1.67638483018380384940e0, 2.05319162663775882187e0, 1.0),
)  # fmt: skip
_FAR = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2,
     2.96560571828504891230e-1, 1.78482653991729133580e0, 5.46378491116411436990e0, 6.65790464350110377720e0),
    (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
     1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0),
)  # fmt: skip


def _rational(coefficients, r):
    parts = []
    for powers in coefficients:
        total = np.full_like(r, powers[0])
        for coefficient in powers[1:]:
            total = total * r + coefficient
        parts.append(total)
    return parts


def normal_quantile(u):
    """Quantile of the standard normal distribution for 0 < u < 1."""
    u = np.asarray(u, dtype=np.float64)
    q = u - 0.5
    num, den = _rational(_CENTRE, 0.180625 - q * q)
    centre = (q * num) / den
    t = np.sqrt(-portable_log(np.where(u < 0.5, u, 1.0 - u)))
    num, den = _rational(_NEAR, t - 1.6)
    tail = num / den
    num, den = _rational(_FAR, t - 5.0)
    tail = np.where(t <= 5.0, tail, num / den)
    return np.where(np.abs(q) <= 0.425, centre, np.where(u < 0.5, -tail, tail))
