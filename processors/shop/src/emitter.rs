//! Stand-in until the library has its own.
#![allow(missing_docs, clippy::unused_async)]
use std::sync::Arc;

use stream_core::codec::Codec;
use stream_core::log::{LogHandle, LogResult, NewRecord, ProduceBatch, Producer, ProducerOptions};

pub struct Emitter<T> {
    topic: Arc<str>,
    codec: Box<dyn Codec<T>>,
    producer: Arc<dyn Producer>,
}
impl<T> std::fmt::Debug for Emitter<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Emitter({})", self.topic)
    }
}
impl<T: 'static> Emitter<T> {
    pub async fn new(topic: &str, codec: impl Codec<T>, log: LogHandle) -> LogResult<Self> {
        _ = codec.prepare(topic).await;
        let producer = log.producer(ProducerOptions::default()).await?;
        Ok(Self { topic: topic.into(), codec: Box::new(codec), producer })
    }
    pub async fn emit(&self, key: &str, value: &T) -> LogResult<()> {
        let mut batch = ProduceBatch::new();
        let record =
            NewRecord { topic: &self.topic, partition: None, timestamp: None, key: Some(key.as_bytes()), value: None };
        _ = batch.push_with(record, std::iter::empty(), |out| self.codec.encode(value, out));
        drop(self.producer.send(Arc::new(batch)));
        Ok(())
    }
    pub async fn flush(&self) -> LogResult<()> {
        self.producer.flush().await
    }
    pub async fn close(self) -> LogResult<()> {
        self.flush().await
    }
}
