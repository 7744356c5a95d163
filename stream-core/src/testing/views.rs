//! Tables and views of a tester that belong to no group of it.

use std::sync::Arc;

use super::error::TesterError;
use super::tester::Tester;
use super::topics::TestInput;
use crate::codec::Codec;
use crate::log::{Cleanup, LogError, TopicConfig, TopicSpec};
use crate::store::MemoryStores;
use crate::view::{View, ViewState};

impl Tester {
    /// Makes the topic of a table that no group of this tester writes, so that groups can join it, look it up or read it. What
    /// is sent to it is the table's content; a null removes a key. A topic that exists stays as it is.
    ///
    /// ```
    /// use stream_core::prelude::*;
    /// use stream_core::testing::Tester;
    ///
    /// let mut g = Group::define("greeted");
    /// let names = g.join("users-table", Text);
    /// let out = g.output("greetings", Text);
    /// g.input("logins", Text, move |ctx, _| match ctx.join(names)? {
    ///     Some(name) => ctx.emit(out, ctx.key(), format!("hello {name}")),
    ///     None => Ok(()),
    /// });
    ///
    /// let tester = Tester::new();
    /// let users = tester.create_table("users-table", Text)?;
    /// users.send("7", "Ada")?;
    /// tester.add(g.build()?)?;
    /// tester.input("logins", Text).send("7", "now")?;
    /// assert_eq!(tester.output("greetings", Text).read_pairs()?, [("7".to_owned(), Some("hello Ada".to_owned()))]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When the log is out of reach.
    pub fn create_table<V: 'static>(&self, topic: &str, codec: impl Codec<V>) -> Result<TestInput<V>, TesterError> {
        let config = TopicConfig::new().cleanup(Cleanup::Compact);
        let spec = TopicSpec::new(topic).partitions(self.0.partitions).config(config);
        match self.block_on(self.0.log.create_topics(vec![spec])) {
            Ok(()) | Err(LogError::TopicExists { .. }) => Ok(self.input(topic, codec)),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a view of a table's topic, and waits until it has caught up. [`drain`](Self::drain), and what drains, waits for it
    /// from then on.
    ///
    /// ```
    /// use stream_core::prelude::*;
    /// use stream_core::testing::Tester;
    ///
    /// let mut g = Group::define("counts").table(Int64);
    /// g.input("words", Text, |ctx, _word| ctx.update(|n| n.unwrap_or(0) + 1));
    /// let tester = Tester::new();
    /// tester.add(g.build()?)?;
    /// let view = tester.view("counts-table", Int64)?;
    /// tester.input("words", Text).send("apple", "red")?;
    /// assert_eq!(view.get("apple")?, Some(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When there is no such topic, or it is no table's.
    pub fn view<V: 'static>(&self, topic: &str, codec: impl Codec<V>) -> Result<View<V>, TesterError> {
        let builder = View::builder(topic, codec, Arc::clone(&self.0.log));
        let builder = builder.stores(Arc::new(MemoryStores::new())).on_this_runtime();
        let view = self.block_on(builder.open())?;
        self.block_on(view.wait_caught_up())?;
        let of = view.clone();
        self.0.views.borrow_mut().push(Box::new(move |tester| tester.lacks(&of)));
        Ok(view)
    }

    fn lacks<V: 'static>(&self, view: &View<V>) -> Result<Option<TesterError>, TesterError> {
        if matches!(view.status().state, ViewState::Failed | ViewState::Closed) {
            return Ok(None);
        }
        for of in view.progress() {
            let position = of.position.unwrap_or_default();
            if !of.complete || !self.read(&of.partition, position)?.is_empty() {
                return Ok(Some(TesterError::Never(format!("a view that has {} from {position} on", of.partition))));
            }
        }
        Ok(None)
    }
}
