package main

import "hash"

// murmur2 is the hash by which Kafka's own clients, and so the writers of the inputs, choose partitions: an output has the
// same partitions for the same keys as an input.
func murmur2() hash.Hash32 { return new(murmur) }

type murmur struct{ data []byte }

func (m *murmur) Write(p []byte) (int, error) {
	m.data = append(m.data, p...)
	return len(p), nil
}

func (m *murmur) Sum(b []byte) []byte {
	n := m.Sum32()
	return append(b, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}
func (m *murmur) Reset()         { m.data = m.data[:0] }
func (m *murmur) Size() int      { return 4 }
func (m *murmur) BlockSize() int { return 4 }

func (m *murmur) Sum32() uint32 {
	const seed, mul, shift = uint32(0x9747b28c), uint32(0x5bd1e995), 24
	data := m.data
	h := seed ^ uint32(len(data))
	for ; len(data) >= 4; data = data[4:] {
		k := uint32(data[0]) | uint32(data[1])<<8 | uint32(data[2])<<16 | uint32(data[3])<<24
		k *= mul
		k ^= k >> shift
		k *= mul
		h = h*mul ^ k
	}
	switch len(data) {
	case 3:
		h ^= uint32(data[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(data[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(data[0])
		h *= mul
	}
	h ^= h >> 13
	h *= mul
	h ^= h >> 15
	return h & 0x7fffffff
}
