//! Error policies of due work in a group's definition: timers, windows, sessions and batches.

use crate::group::GroupBuilder;
use crate::topology::{BatchHandle, ErrorPolicy, SessionHandle, Timer, WindowHandle};

/// A timer, window, session or batch, made from its handle for [`on_due_error`](GroupBuilder::on_due_error).
#[derive(Clone, Copy, Debug)]
pub struct DueWork {
    graph: u64,
    index: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Timer,
    Window,
    /// A session or a batch.
    Entry,
}

macro_rules! due_work {
    ($($handle:ident as $kind:ident),*) => {
        $(impl<T> From<$handle<T>> for DueWork {
            fn from(handle: $handle<T>) -> Self {
                Self { graph: handle.graph, index: handle.index, kind: Kind::$kind }
            }
        })*
    };
}
due_work!(Timer as Timer, WindowHandle as Window, SessionHandle as Entry, BatchHandle as Entry);

impl<S: 'static> GroupBuilder<S> {
    /// Sets the error policy of the callback of a timer, a window, a session or a batch. It also applies if Kafka refuses a
    /// record that the callback has written. The default is [`ErrorPolicy::fail`]: the instance fails, and the callback is called again when it is
    /// restarted.
    ///
    /// Skip deletes the entry, counts it, and goes on with the others. A dead letter has the key and the value that the
    /// callback would have been given, as its codec wrote it; [headers](crate::group::dead_letter) name what was due, and the start
    /// and the end of its window or session. A batch is put aside record by record. While a retry waits, its partition waits.
    ///
    /// ```
    /// use std::time::Duration;
    /// use stream_core::prelude::*;
    ///
    /// let mut g = Group::define("clicks-per-minute");
    /// let minute = g.window("minute", Windows::tumbling(Duration::from_secs(60)), Int64);
    /// g.input("clicks", Text, move |ctx, _| ctx.aggregate(minute, |n| n.unwrap_or(0) + 1).map(drop));
    /// g.on_close(minute, |_ctx, (_window, n)| if n > 0 { Ok(()) } else { Err(CallbackError::msg("an empty window")) });
    /// g.on_due_error(minute, ErrorPolicy::dead_letter("minutes-dead").retry(3, Duration::from_millis(100)));
    /// # g.build()?;
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn on_due_error(&mut self, of: impl Into<DueWork>, policy: ErrorPolicy) -> &mut Self {
        let DueWork { graph, index, kind } = of.into();
        let own = graph == self.graph.id;
        let set = match kind {
            Kind::Timer => self.graph.timers.get_mut(index).map(|e| &mut e.policy),
            Kind::Window => self.graph.windows.get_mut(index).map(|e| &mut e.policy),
            Kind::Entry => self.graph.due_entries.get_mut(index).map(|e| &mut e.policy),
        };
        match set.filter(|_| own) {
            Some(set) => *set = policy,
            None => self.name_foreign("timer, window, session or batch"),
        }
        self
    }
}
