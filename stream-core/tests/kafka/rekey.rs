//! Records that come back to their group under other keys (semantics D16), on a real Kafka with both guarantees.

with_both!(300, crate::cases::rekey: a_backlog_goes_through_a_chain_of_re_keys_with_restarts);
