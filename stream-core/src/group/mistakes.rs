//! Definitions that do not compile, each beside the one that does. Only the doc tests see them.

/// Without a table there is no value: "the group of this callback has no table".
///
/// ```compile_fail
/// use stream_core::prelude::*;
/// let mut g = Group::define("counts");
/// g.input("words", Text, |ctx, _word| ctx.set(1));
/// ```
///
/// ```
/// use stream_core::prelude::*;
/// let mut g = Group::define("counts").table(Int64);
/// g.input("words", Text, |ctx, _word| ctx.set(1));
/// ```
pub struct NoTable;

/// A table after the input comes too late for its callback: "the group of this callback has no table".
///
/// ```compile_fail
/// use stream_core::prelude::*;
/// let mut g = Group::define("counts");
/// g.input("words", Text, |ctx, _word| ctx.set(1));
/// let g = g.table(Int64);
/// ```
pub struct TableAfterInput;

/// A value of another type: "`String` is not a value of type `i64`".
///
/// ```compile_fail
/// use stream_core::prelude::*;
/// let mut g = Group::define("last").table(Int64);
/// g.input("words", Text, |ctx, word| ctx.set(word));
/// ```
///
/// ```
/// use stream_core::prelude::*;
/// let mut g = Group::define("last").table(Text);
/// g.input("words", Text, |ctx, word| ctx.set(word));
/// ```
pub struct OtherValue;

/// An `async` closure is for `input_async`, and is written `async move |ctx, word|`.
///
/// ```compile_fail
/// use stream_core::prelude::*;
/// let mut g = Group::define("slow").table(Int64);
/// g.input("words", Text, async move |ctx, _word| ctx.set(1));
/// ```
///
/// ```compile_fail
/// use stream_core::prelude::*;
/// let mut g = Group::define("slow").table(Int64);
/// g.input_async("words", Text, |ctx, _word| async move { ctx.set(1) });
/// ```
///
/// ```
/// use stream_core::prelude::*;
/// let mut g = Group::define("slow").table(Int64);
/// g.input_async("words", Text, async move |ctx, _word| {
///     tokio::task::yield_now().await;
///     ctx.set(1)
/// });
/// ```
pub struct AsyncCallback;

/// A builder that is used after the chain needs a variable: "consider using a `let` binding".
///
/// ```compile_fail
/// use stream_core::prelude::*;
/// let g = Group::define("counts").table(Int64).input("words", Text, |ctx, _word| ctx.set(1));
/// g.input("more", Text, |ctx, _word| ctx.set(2));
/// ```
///
/// ```
/// use stream_core::prelude::*;
/// let mut g = Group::define("counts").table(Int64);
/// g.input("words", Text, |ctx, _word| ctx.set(1)).input("more", Text, |ctx, _word| ctx.set(2));
/// # g.build()?;
/// # Ok::<(), BuildError>(())
/// ```
pub struct ChainInAVariable;
