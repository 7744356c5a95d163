//! Windows of a group's definition.

use std::sync::Arc;

use crate::codec::Codec;
use crate::context::Ctx;
use crate::group::GroupBuilder;
use crate::time::due_callback::OnDue;
use crate::topology::{CallbackResult, CodecOf, ErrorPolicy, WindowEdge, Windowed, window_topic};
use crate::window::{Window, Windows};

impl<S: 'static> GroupBuilder<S> {
    /// Accumulators of `A`, one for each key and window, in the topic `<group>-window-<name>`: written by
    /// [`Ctx::aggregate`], deleted when their window closes.
    pub fn window<A: 'static>(
        &mut self,
        name: impl Into<Arc<str>>,
        windows: Windows,
        codec: impl Codec<A>,
    ) -> Windowed<A> {
        let name = name.into();
        let state = self.add_state(window_topic(&self.graph.name, &name), codec);
        self.graph.windows.push(WindowEdge { name, windows, state, policy: ErrorPolicy::fail() });
        self.callbacks.windows.push(None);
        Windowed::new(self.graph.id, self.graph.windows.len() - 1)
    }

    /// Sets the callback that gets the final accumulator of each key and window, once, when the window closes
    /// ([W3](crate::semantics#w3-a-final-result-comes-once)). Its time is the window's last millisecond. An error
    /// follows [`on_due_error`](Self::on_due_error): by default it fails the instance, and the window closes again when
    /// that is restarted.
    pub fn on_close<A: 'static, F>(&mut self, window: Windowed<A>, callback: F) -> &mut Self
    where
        F: Fn(&mut Ctx<'_, S>, Window, A) -> CallbackResult + Send + Sync + 'static,
    {
        let edge = self.graph.windows.get(window.index).filter(|_| window.graph == self.graph.id);
        let edge = edge.and_then(|edge| self.graph.state.get(edge.state).map(|state| (edge, state)));
        let Some(((edge, state), set)) = edge.zip(self.callbacks.windows.get_mut(window.index)) else {
            self.foreign = Some("window");
            return self;
        };
        let windows = edge.windows;
        let call = move |ctx: &mut Ctx<'_, S>, value, last: i64| {
            let end = last.saturating_add(1);
            callback(ctx, windows.starting(end.saturating_sub(windows.size)), value)
        };
        let (codec, of) = (Arc::clone(&state.codec), CodecOf::State(edge.state));
        *set = Some(OnDue::<A, A, S, _>::boxed(codec, of, |codec, bytes| codec.decode(bytes), call));
        self
    }
}
