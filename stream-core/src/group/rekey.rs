//! Re-keys in a group's definition, and the callback behind one: an input's records come back to the group under other keys, by
//! a topic that only the library writes. Values pass as they came, and must never be encoded again.

use std::sync::Arc;

use super::around::Layer;
use super::builder::GroupBuilder;
use super::callback::{Handler, SyncHandler, Timed, decode, event_time};
use crate::codec::Codec;
use crate::context::{Core, Ctx, Source, Stage};
use crate::key::Key;
use crate::log::RecordRef;
use crate::topology::{
    CallbackError, CallbackResult, CodecOf, Input, Loop, NoTable, NullKey, NullValue, OutputEdge, Passage, erase,
    rekey_topic,
};

mod sealed {
    use std::sync::Arc;

    use super::{Codec, GroupBuilder, Input};

    /// What a re-key reads: how, by which codec, and whether the group itself writes it.
    #[allow(missing_docs, reason = "only a seal")]
    pub struct Origin<M>(pub(super) Input, pub(super) Arc<dyn Codec<M>>, pub(super) bool);

    #[allow(missing_docs, reason = "only a seal")]
    pub trait Sealed<M> {
        fn read_by<S: 'static>(self, group: &mut GroupBuilder<S>) -> Option<Origin<M>>;
    }
}
use self::sealed::{Origin, Sealed};

/// A source of records that can be [re-keyed](GroupBuilder::rekey): a topic with its codec, `("clicks", Text)`, where the topic
/// may be an [`Input`]; or the [`Loop`] that a re-key gave, or a loop.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be re-keyed",
    label = "is no source of records",
    note = "name a topic and its codec, `g.rekey((\"clicks\", Text), by)`, or pass on what another rekey() gave"
)]
pub trait RekeySource<M>: Sealed<M> {}

impl<M: 'static, T: Into<Input>, C: Codec<M>> RekeySource<M> for (T, C) {}

impl<M: 'static, T: Into<Input>, C: Codec<M>> Sealed<M> for (T, C) {
    fn read_by<S: 'static>(self, _: &mut GroupBuilder<S>) -> Option<Origin<M>> {
        Some(Origin(self.0.into(), Arc::new(self.1), false))
    }
}

impl<M: 'static> RekeySource<M> for Loop<M> {}

impl<M: 'static> Sealed<M> for Loop<M> {
    fn read_by<S: 'static>(self, group: &mut GroupBuilder<S>) -> Option<Origin<M>> {
        group.arrives(self).map(|(input, codec)| Origin(input, codec, true))
    }
}

impl<S: 'static> GroupBuilder<S> {
    /// Reads records, and has them come back to the group under the keys that `by` computes from them, each in the partition of
    /// its new key. [`on_loop`](Self::on_loop) sets the callback, or another `rekey` takes them on.
    ///
    /// They go through a topic of the group, `<group>-<input>-rekey`, with their value, their headers and their event time. All
    /// partitions of a group that re-keys are read in step where it has windows, sessions or joins, so that nothing is late after
    /// a stop ([J7](crate::semantics#j7-joins-on-another-key)).
    ///
    /// ```
    /// use std::time::Duration;
    /// use stream_core::prelude::*;
    /// use stream_core::window::Windows;
    ///
    /// // Clicks come by user, as "region page", and are counted for each region and minute.
    /// let mut g = Group::define("regions");
    /// let out = g.output("clicks-by-region", Int64);
    /// let minute = Windows::tumbling(Duration::from_secs(60)).grace(Duration::from_secs(10));
    /// let counts = g.window("clicks", minute, Int64);
    /// let by_region = g.rekey(("clicks", Text), |_, click| Ok(click.split(' ').next().map(str::to_owned)));
    /// g.on_loop(by_region, move |ctx, _click| {
    ///     ctx.aggregate(counts, |n| n.unwrap_or(0) + 1)?;
    ///     Ok(())
    /// });
    /// g.on_close(counts, move |ctx, (_minute, n)| ctx.emit(out, ctx.key(), n));
    /// # g.build()?;
    /// # Ok::<(), BuildError>(())
    /// ```
    ///
    /// `by` gets the record's context, with its old key and its headers, and its value. An error of it, and one of the callback
    /// behind, follows the input's policy; a re-keyed record that is put aside has its new key. A record for which it gives no key
    /// (`None`) is left out, and counted as [`LeftOut::NullKey`](super::LeftOut::NullKey). The old key may be null, unless the
    /// input says [`NullKey::Skip`]. A null value is left out, unless the codec has a value for it
    /// ([`Nullable`](crate::codec::Nullable)) or the input says [`NullValue::Pass`]: then it is passed on
    /// ([D16](crate::semantics#d16-re-keys-and-loops)).
    ///
    /// The topic has one reader, as any topic of a group: to use the same records by two keys, send them on from the callback by
    /// a [loop](Self::named_loop).
    pub fn rekey<M: 'static, K: Key>(
        &mut self,
        from: impl RekeySource<M>,
        by: impl Fn(&Ctx<'_, NoTable>, &M) -> Result<K, CallbackError> + Send + Sync + 'static,
    ) -> Loop<M> {
        // What is reported as a foreign handle already is none of any group's.
        let Some(Origin(input, codec, own)) = from.read_by(self) else { return Loop::new(0, usize::MAX) };
        let prefix = format!("{}-", self.graph.name);
        let name = Some(&*input.topic).filter(|_| own).and_then(|topic| topic.strip_prefix(&prefix));
        let topic = rekey_topic(&self.graph.name, name.unwrap_or(&input.topic));
        let skips_values = match input.null_value {
            Some(rule) => rule == NullValue::Skip,
            None => codec.null().is_none(),
        };
        let skips_keys = input.null_key == NullKey::Skip;

        let erased = erase::<M>(Arc::new(Arc::clone(&codec)));
        self.edges().outputs.push(OutputEdge { topic: Arc::clone(&topic), own: Some(Passage::Rekey), codec: erased });
        let output = self.graph.outputs.len() - 1;
        self.rekeyed.insert(output, Input { topic, ..input.clone() });
        let handler = OnRekey { codec: Arc::clone(&codec), by, output, skips_values, skips_keys };
        // What nulls mean is said here: where a record is left out, stream time stays.
        let input = Input { null_value: Some(NullValue::Pass), null_key: NullKey::Pass, ..input };
        self.add_input::<M>(input, own, Arc::new(codec), Handler::Sync(Box::new(handler)));
        if let Some(edge) = self.graph.inputs.last_mut() {
            edge.re_keys = true;
        }
        Loop::new(self.graph.id, output)
    }
}

/// Sends an input's records on under other keys. They are worked on elsewhere: stream time does not move here.
struct OnRekey<M, F> {
    codec: Arc<dyn Codec<M>>,
    by: F,
    /// Index of the output to its topic.
    output: usize,
    skips_values: bool,
    skips_keys: bool,
}

impl<M, F: Send + Sync> Timed for OnRekey<M, F> {
    fn event_time(&self, _: &Core, _: usize, _: RecordRef<'_>) -> Result<Option<i64>, CallbackError> {
        Ok(None)
    }

    /// Its records are sent on before any callback.
    fn surround(&mut self, _: Layer) {}
}

impl<M, K, F> SyncHandler for OnRekey<M, F>
where
    M: 'static,
    K: Key,
    F: Fn(&Ctx<'_, NoTable>, &M) -> Result<K, CallbackError> + Send + Sync,
{
    fn call(&self, core: &Core, source: Source<'_>, record: RecordRef<'_>, stage: &mut Stage) -> CallbackResult {
        if record.value.is_none() && self.skips_values {
            event_time(&self.codec, None, core, source.input, record)?;
            stage.left_out.null_value += 1;
            return Ok(());
        }
        if record.key.is_none() && self.skips_keys {
            core.check_no_time(record.timestamp)?;
            stage.left_out.null_key += 1;
            return Ok(());
        }
        let message = decode(&self.codec, record.value, CodecOf::Input(source.input), stage)?;
        let at = event_time(&self.codec, Some(&message), core, source.input, record)?;
        let record = RecordRef { timestamp: at.unwrap_or(record.timestamp), ..record };
        stage.at = record.timestamp;
        let key = (self.by)(&Ctx::new(core, source, record, stage), &message)?;
        let Some(key) = key.bytes() else {
            stage.left_out.null_key += 1;
            return Ok(());
        };
        let record = RecordRef { key: Some(&key), ..record };
        core.pass_on(stage, self.output, None, record, record.headers.iter())
    }
}
