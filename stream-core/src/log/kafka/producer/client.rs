//! The client of a producer: made, polled and replaced.
//!
//! The size of a batch is an option of the client, so that a smaller one needs a new client. It is made once nothing is on
//! the way any more, so that no record overtakes another.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::producer::BaseProducer;

use super::context::ProducerCtx;
use super::delivery_table::DeliveryTable;
use super::transaction;
use crate::log::kafka::blocking::spawn;
use crate::log::kafka::client_health::BrokersLost;
use crate::log::kafka::config;
use crate::log::kafka::connection::{Connection, POLL};
use crate::log::kafka::context::Ctx;
use crate::log::kafka::error::ErrorContext;
use crate::log::kafka::options::KafkaOptions;
use crate::log::{LogResult, ProducerOptions};

/// The parts that a client is made of.
pub(super) struct Maker {
    pub(super) kafka: KafkaOptions,
    pub(super) options: ProducerOptions,
    pub(super) error_context: Arc<ErrorContext>,
    pub(super) deliveries: Arc<DeliveryTable>,
    brokers_lost: BrokersLost,
    name: String,
}

/// A client, and the thread that serves its delivery reports.
pub(super) struct Client {
    pub(super) producer: Arc<BaseProducer<ProducerCtx>>,
    stop: Arc<AtomicBool>,
    ended: mpsc::Receiver<()>,
}

impl Maker {
    pub(super) fn new(
        connection: &Connection,
        options: &ProducerOptions,
        error_context: Arc<ErrorContext>,
        deliveries: Arc<DeliveryTable>,
    ) -> Self {
        let name = options.transactional_id.as_ref().map_or("producer".into(), |id| format!("producer {id}"));
        Self {
            kafka: connection.options.clone(),
            options: options.clone(),
            error_context,
            deliveries,
            brokers_lost: connection.brokers_lost.clone(),
            name,
        }
    }

    /// Makes a client. Blocks while a transactional one fences its predecessors.
    pub(super) fn client(&self) -> LogResult<Client> {
        let until = Instant::now() + self.kafka.request_timeout;
        let base = Ctx::new(self.name.clone(), Arc::clone(&self.error_context.health), &self.brokers_lost);
        let ctx = ProducerCtx {
            base,
            error_context: Arc::clone(&self.error_context),
            deliveries: Arc::clone(&self.deliveries),
        };
        let config = config::producer(&self.kafka, &self.options);
        let producer = BaseProducer::from_config_and_context(&config, ctx).map_err(|e| config::refused(&e))?;
        let producer: Arc<BaseProducer<ProducerCtx>> = Arc::new(producer);
        let stop = Arc::new(AtomicBool::new(false));
        let (polled, stopped, (polling, ended)) = (Arc::clone(&producer), Arc::clone(&stop), mpsc::channel::<()>());
        spawn("kafka-deliveries", move || {
            while !stopped.load(Ordering::Acquire) {
                polled.poll(POLL);
            }
            // The sender's thread is the one that waits for the client's end.
            drop((polled, polling));
        })?;
        let client = Client { producer, stop, ended };
        if self.options.transactional_id.is_some()
            && let Err(e) = transaction::init(&client.producer, &self.error_context, until)
        {
            client.stop.store(true, Ordering::Release);
            return Err(e);
        }
        Ok(client)
    }
}

impl Client {
    /// Ends the thread of delivery reports, so that the caller that drops this is the last to hold the client.
    pub(super) fn end(&self) {
        self.stop.store(true, Ordering::Release);
        // An error says that the thread has let go of the client.
        let _ = self.ended.recv_timeout(Duration::from_secs(5));
    }
}
