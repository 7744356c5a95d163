//! The library on the embedded log and on stores of this process: what needs no other program.

#[macro_use]
mod store_suite;
mod strict_log;
mod support;

#[cfg(feature = "avro")]
#[path = "../support/registry.rs"]
mod fake_registry;
#[cfg(feature = "monitor")]
#[path = "../support/http.rs"]
mod http_support;
#[path = "../support/join.rs"]
mod join_support;
#[path = "../support/store.rs"]
mod store_support;
#[path = "../support/view/mod.rs"]
mod view_support;

mod around;
#[cfg(feature = "avro")]
mod avro_aliases;
#[cfg(feature = "avro")]
mod codec_avro;
mod codec_state;
mod decode_policy;
mod delivery_d10_away;
mod delivery_d11_meanings;
mod delivery_d11_positions;
mod delivery_d13_own_topics;
mod delivery_d14_dead_letters;
mod delivery_d1_async;
mod delivery_d1_contiguous;
mod delivery_d1_deferred;
mod delivery_d1_held_acks;
mod delivery_d2_errors;
mod delivery_d2_store;
mod delivery_d2_tail;
mod delivery_d3_restore;
mod delivery_d4_order;
mod delivery_d5_nulls;
mod delivery_d6_batch;
mod delivery_d6_loading;
mod delivery_d6_panics;
mod delivery_d6_policies;
mod delivery_d7_effects;
mod delivery_d8_too_large;
mod delivery_d9_positions;
mod delivery_moves;
mod emit_instead;
mod emitter_delivery;
mod error_chains;
mod errors;
mod exactly_once;
mod formats_before;
mod join_backlog;
mod join_build;
mod join_cases;
mod join_changelog;
mod join_faults;
mod join_model;
mod join_rules;
mod join_stream_table;
mod join_tables;
mod key_partitioner;
mod keys;
mod layers;
mod left_out;
mod lookup_join;
mod loop_backlog;
mod nullable;
mod processor_back_pressure;
mod processor_lifecycle;
mod processor_loops;
mod processor_memory;
mod processor_options;
mod processor_outage;
mod processor_restart;
mod processor_standby;
mod processor_threads;
mod processor_topics;
mod processor_visitors;
mod refusals;
mod rekey;
mod rekey_backlog;
mod rekey_build;
mod rulebook;
mod spans;
mod store_conformance;
mod store_crash;
#[cfg(feature = "fjall")]
mod store_fjall;
mod store_large;
mod store_sled;
mod table_reads;
#[cfg(feature = "monitor")]
mod tables_http;
mod task_clock;
mod tester_views;
mod time_model;
mod time_t1_limits;
mod time_t1_stream_time;
mod time_t1a_due_first;
mod time_t1a_idle_close;
mod time_t2_due_errors;
mod time_t2_timers;
mod time_t3_event_time;
mod top;
mod topics_ensure;
mod values;
mod view_heals;
mod view_reads;
mod window_w1_hopping;
mod window_w2_late;
mod window_w3_final;
mod window_w4_sessions;
mod window_w5_batches;
mod window_w5_gap;
