//! Callbacks that fail on purpose, for tests.

#[cfg_attr(not(feature = "testing"), allow(unused_imports))]
use std::sync::{Arc, Mutex, PoisonError};

use crate::group::CallbackError;

/// Where a callback is, when it is asked whether it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// It has done nothing yet.
    Before,
    /// It has done everything, and nothing of it is released.
    After,
}

type Fault = Box<dyn FnMut(&str, Moment) -> Option<CallbackError> + Send>;

/// Lets callbacks fail on purpose: asked with the input's topic before and after each call. Costs a load where it is
/// not set.
#[derive(Clone, Default)]
pub(crate) struct CallbackFaults(Option<Arc<Mutex<Option<Fault>>>>);

impl CallbackFaults {
    #[cfg(feature = "testing")]
    pub(crate) fn settable() -> Self {
        Self(Some(Arc::default()))
    }

    #[cfg(feature = "testing")]
    pub(crate) fn set(&self, fault: impl FnMut(&str, Moment) -> Option<CallbackError> + Send + 'static) {
        if let Some(slot) = &self.0 {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(fault));
        }
    }

    /// The error that a callback for this topic is to fail with, if any.
    pub(super) fn check(&self, topic: &str, moment: Moment) -> Result<(), CallbackError> {
        let Some(slot) = &self.0 else { return Ok(()) };
        let mut fault = slot.lock().unwrap_or_else(PoisonError::into_inner);
        fault.as_mut().and_then(|fault| fault(topic, moment)).map_or(Ok(()), Err)
    }
}
