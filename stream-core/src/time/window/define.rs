//! Windows of a group's definition.

use std::sync::Arc;

use crate::codec::Codec;
use crate::context::Ctx;
use crate::group::GroupBuilder;
use crate::time::closing::{Closes, sealed::Sealed};
use crate::time::due_callback::OnDue;
use crate::topology::{CallbackResult, CodecOf, ErrorPolicy, WindowEdge, WindowHandle, window_topic};
use crate::window::{Window, Windows};

impl<S: 'static> GroupBuilder<S> {
    /// Accumulators of `A`, one for each key and window, in the topic `<group>-window-<name>`: written by
    /// [`Ctx::aggregate`], deleted when their window closes.
    pub fn window<A: 'static>(
        &mut self,
        name: impl Into<Arc<str>>,
        windows: Windows,
        codec: impl Codec<A>,
    ) -> WindowHandle<A> {
        let name = name.into();
        let table = self.add_state(window_topic(&self.graph.name, &name), codec);
        self.edges().windows.push(WindowEdge { name, windows, table, policy: ErrorPolicy::fail() });
        self.callbacks.windows.push(None);
        WindowHandle::new(self.graph.id, self.graph.windows.len() - 1)
    }
}

impl<A> Sealed for WindowHandle<A> {}

impl<A: 'static> Closes for WindowHandle<A> {
    type Closed = (Window, A);

    fn set_on_close<S: 'static>(
        self,
        group: &mut GroupBuilder<S>,
        callback: impl Fn(&mut Ctx<'_, S>, Self::Closed) -> CallbackResult + Send + Sync + 'static,
    ) {
        let edge = group.graph.windows.get(self.index).filter(|_| self.graph == group.graph.id);
        let edge = edge.and_then(|edge| group.graph.tables.get(edge.table).map(|table| (edge, table)));
        let Some(((edge, table), set)) = edge.zip(group.callbacks.windows.get_mut(self.index)) else {
            group.name_foreign("window");
            return;
        };
        let windows = edge.windows;
        let call = move |ctx: &mut Ctx<'_, S>, value, last: i64| {
            let end = last.saturating_add(1);
            callback(ctx, (windows.starting(end.saturating_sub(windows.size)), value))
        };
        let (codec, of) = (Arc::clone(&table.codec), CodecOf::Table(edge.table));
        *set = Some(OnDue::<A, A, S, _>::boxed(codec, of, |codec, bytes| codec.decode(bytes), call));
    }
}
