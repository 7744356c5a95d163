//! Setting the filter's rule: checked first, so that a bad one never gets into the topic.

use std::sync::Arc;

use stream_core::clock::Clock;
use stream_core::codec::Json;
use stream_core::emitter::{EmitError, Emitter};
use stream_core::log::LogHandle;

use crate::filter::RULE_KEY;
use crate::rule::{BadPattern, Matcher, Rule};

/// Writes rules to the control topic.
#[derive(Debug)]
pub struct Rules {
    emitter: Emitter<Rule>,
    clock: Arc<dyn Clock>,
    user: String,
}

/// Why a rule could not be set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetRuleError {
    /// It makes no sense.
    #[error(transparent)]
    Bad(#[from] BadPattern),
    /// It could not be written.
    #[error(transparent)]
    Emit(#[from] EmitError),
}

impl Rules {
    /// Opens the topic, which must exist.
    ///
    /// # Errors
    /// When the log fails.
    pub async fn open(topic: &str, log: &LogHandle) -> Result<Self, EmitError> {
        let emitter = Emitter::new(topic, Json::<Rule>::new(), Arc::clone(log)).await?;
        let user = std::env::var("USER").unwrap_or_else(|_| "unknown".into());
        Ok(Self { emitter, clock: log.clock(), user })
    }

    /// Sets a rule, signed with the user's name and the time. Returns it once it is acknowledged.
    ///
    /// # Errors
    /// When it makes no sense, or can't be written. The old rule stays then.
    pub async fn set(&self, rule: Rule) -> Result<Rule, SetRuleError> {
        Matcher::new(&rule)?;
        let rule = rule.signed(self.user.as_str(), self.clock.now_ms());
        self.emitter.emit_acknowledged(RULE_KEY, &rule).await?;
        Ok(rule)
    }
}
