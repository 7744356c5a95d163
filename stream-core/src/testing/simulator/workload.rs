//! The records that are written to the inputs, and when. Drawn once for a seed, so that every run of it gets the same records.

use std::sync::Arc;
use std::time::Duration;

use super::SimulationError;
use super::random::Random;
use crate::codec::Codec;

/// A record to be written.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    /// After the beginning.
    pub(super) at: Duration,
    pub(super) topic: Arc<str>,
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
}

type Draw = Box<dyn Fn(&mut Random, u64) -> Result<(Vec<u8>, Vec<u8>), crate::codec::CodecError>>;

/// An input topic and what is written to it.
pub(super) struct Source {
    topic: Arc<str>,
    records: u64,
    draw: Draw,
}

impl Source {
    pub(super) fn new<K: AsRef<[u8]>, M: 'static>(
        topic: Arc<str>,
        codec: impl Codec<M>,
        records: u64,
        draw: impl Fn(&mut Random, u64) -> (K, M) + 'static,
    ) -> Self {
        let draw: Draw = Box::new(move |random, number| {
            let (key, value) = draw(random, number);
            let mut bytes = Vec::new();
            codec.encode(&value, &mut bytes)?;
            Ok((key.as_ref().to_vec(), bytes))
        });
        Self { topic, records, draw }
    }
}

/// Draws everything, in the order in which it is written.
pub(super) fn draw(sources: &[Source], random: &mut Random, within: Duration) -> Result<Vec<Planned>, SimulationError> {
    let mut all = Vec::new();
    for source in sources {
        let mut random = random.fork();
        let mut at = 0;
        let mean = u64::try_from(within.as_millis()).unwrap_or(u64::MAX) / source.records.max(1);
        for number in 0..source.records {
            // Bursts and pauses.
            at += if random.chance(700) { 0 } else { random.below(mean * 7 + 1) };
            let (key, value) = (source.draw)(&mut random, number)
                .map_err(|error| SimulationError::Codec { topic: source.topic.to_string(), error })?;
            all.push(Planned { at: Duration::from_millis(at), topic: Arc::clone(&source.topic), key, value });
        }
    }
    all.sort_by_key(|planned| planned.at);
    Ok(all)
}
