//! Dead letters: records that are put aside, as they came, with headers that say why and where from (semantics D14).

use std::sync::Arc;

use crate::context::Stage;
use crate::group::CallbackError;
use crate::log::{NewRecord, RecordRef};

/// Stages a record as it came, with headers that say why and where from.
pub(super) fn dead_letter(
    stage: &mut Stage,
    to: &Arc<str>,
    group: &str,
    topic: &str,
    partition: i32,
    record: RecordRef<'_>,
    error: &CallbackError,
) {
    let reason = error.to_string();
    let (partition, offset) = (partition.to_string(), record.offset.to_string());
    let timestamp = record.timestamp.to_string();
    let ours: [(&str, &str); 6] = [
        ("dead-letter-reason", &reason),
        ("dead-letter-group", group),
        ("dead-letter-topic", topic),
        ("dead-letter-partition", &partition),
        ("dead-letter-offset", &offset),
        ("dead-letter-timestamp", &timestamp),
    ];
    let headers = record.headers.iter().chain(ours.iter().map(|(name, value)| (*name, Some(value.as_bytes()))));
    let new = NewRecord {
        topic: to,
        partition: None,
        timestamp: Some(record.timestamp),
        key: record.key,
        value: record.value,
    };
    stage.out.push(new, headers);
}
