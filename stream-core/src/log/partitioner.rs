//! How a key chooses its partition, exactly as other clients do: a view or a test must find the partition that a
//! producer, ours or a Java or Goka one, chose. Never a place for randomness: a record without a key has no partition
//! here.

use std::fmt;

use super::Partitioner;

impl Partitioner {
    /// The partition of a key, for a topic of `partitions` partitions (0 when it has none).
    pub fn partition(&self, key: &[u8], partitions: i32) -> i32 {
        if partitions <= 0 {
            return 0;
        }
        match self {
            // As the Java client: the sign bit is masked away, not negated.
            Self::Murmur2Random => (murmur2(key) & 0x7fff_ffff) % partitions,
            // As sarama's hash partitioner, which Goka uses: a negative remainder is negated.
            Self::Fnv1aRandom => (fnv1a(key).cast_signed() % partitions).abs(),
        }
    }
}

/// The partitioners that clients are known to use for records with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Murmur2,
    Fnv1a,
    /// librdkafka's default, `consistent_random`.
    Crc32,
}

impl Known {
    pub(crate) const ALL: [Self; 3] = [Self::Murmur2, Self::Fnv1a, Self::Crc32];

    /// The partition of a key that is not empty.
    pub(crate) fn partition(self, key: &[u8], partitions: i32) -> i32 {
        match self {
            Self::Murmur2 => Partitioner::Murmur2Random.partition(key, partitions),
            Self::Fnv1a => Partitioner::Fnv1aRandom.partition(key, partitions),
            Self::Crc32 => {
                let partitions = u32::try_from(partitions).unwrap_or_default();
                crc32fast::hash(key).checked_rem(partitions).and_then(|p| i32::try_from(p).ok()).unwrap_or_default()
            }
        }
    }
}

impl From<Partitioner> for Known {
    fn from(partitioner: Partitioner) -> Self {
        match partitioner {
            Partitioner::Murmur2Random => Self::Murmur2,
            Partitioner::Fnv1aRandom => Self::Fnv1a,
        }
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Murmur2 => "murmur2, as Java clients do",
            Self::Fnv1a => "FNV-1a, as Goka does",
            Self::Crc32 => "CRC-32, librdkafka's default",
        })
    }
}

/// The 32-bit murmur2 of the Java client (`org.apache.kafka.common.utils.Utils.murmur2`).
pub fn murmur2(data: &[u8]) -> i32 {
    const M: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    // The length takes part modulo 2^32, as in the original.
    #[allow(clippy::cast_possible_truncation, reason = "wraps as the original does")]
    let mut hash = SEED ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    if !rest.is_empty() {
        for (n, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * n);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    (hash ^ (hash >> 15)).cast_signed()
}

/// The 32-bit FNV-1a hash.
pub fn fnv1a(data: &[u8]) -> u32 {
    data.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_is_the_java_clients() {
        // From the Java client's UtilsTest.
        let known: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        }
    }

    #[test]
    fn fnv1a_is_the_standard_one() {
        // From the FNV authors' test vectors.
        let known: [(&str, u32); 5] =
            [("", 0x811c_9dc5), ("a", 0xe40c_292c), ("b", 0xe70c_2de5), ("foo", 0xa9f3_7ed7), ("foobar", 0xbf9c_f968)];
        for (key, hash) in known {
            assert_eq!(fnv1a(key.as_bytes()), hash, "{key}");
        }
    }

    #[test]
    fn partitions_are_positive_and_those_of_other_clients() {
        let (murmur, fnv) = (Partitioner::Murmur2Random, Partitioner::Fnv1aRandom);
        // -973932308 & 0x7fffffff = 1173551340.
        assert_eq!(murmur.partition(b"21", 1000), 340);
        // 0xe40c292c as i32 = -468965076, whose remainder by 1000 is -76.
        assert_eq!(fnv.partition(b"a", 1000), 76);
        for n in 0..1000i32 {
            for p in [murmur, fnv] {
                assert!((0..7).contains(&p.partition(&n.to_le_bytes(), 7)));
                assert_eq!(p.partition(&n.to_le_bytes(), 0), 0);
            }
        }
    }
}
