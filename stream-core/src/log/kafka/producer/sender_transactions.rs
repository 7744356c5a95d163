//! Transactions, on the sender's thread.
//!
//! Retriable errors are tried again here, within a bound. A commit whose outcome is not known at the end of the bound is
//! fatal: only a new producer of the same id, and the group's committed offsets, show it.

use std::time::{Duration, Instant};

use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::producer::Producer as _;

use super::sender::Sender;
use super::transaction::{Transaction, again, classed, not_open};
use crate::log::kafka::query::commits;
use crate::log::{Commits, GroupMetadata, LogError, LogResult};

impl Sender {
    fn alive(&self, what: &str) -> LogResult<()> {
        match &self.transaction {
            Transaction::Never => {
                Err(LogError::Config { what: what.to_owned(), reason: "the producer has no transactional id".into() })
            }
            Transaction::Dead(error) => Err(error.clone()),
            Transaction::None | Transaction::Open => Ok(()),
        }
    }

    /// Remembers an error that ends this producer.
    fn ended(&mut self, error: LogError) -> LogError {
        let error = self.fatal().unwrap_or(error);
        if matches!(error, LogError::Fenced { .. } | LogError::Fatal { .. }) {
            self.transaction = Transaction::Dead(error.clone());
        }
        error
    }

    pub(super) fn begin(&mut self, before: u64) -> LogResult<()> {
        let what = "beginning a transaction";
        self.alive(what)?;
        if self.transaction.is_open() {
            return Err(LogError::Config { what: what.into(), reason: "one is open already".into() });
        }
        self.finish(before);
        self.tracker.forget_failure();
        let begun = self.client.begin_transaction();
        begun.map_err(|e| self.ended(classed(&self.error_context, what, &e)))?;
        self.transaction = Transaction::Open;
        Ok(())
    }

    pub(super) fn commit(&mut self, before: u64, offsets: &Commits, member: Option<&GroupMetadata>) -> LogResult<()> {
        let what = "committing a transaction";
        self.alive(what)?;
        if !self.transaction.is_open() {
            return Err(not_open(what));
        }
        self.finish(before);
        if let Some(error) = self.fatal() {
            return Err(self.ended(error));
        }
        // librdkafka knows of records that it was given; one that it refused would be missing without a word.
        if let Some(error) = self.tracker.failure() {
            return Err(LogError::Abortable { what: what.into(), reason: format!("a record failed: {error}") });
        }
        let until = Instant::now() + self.bound;
        // The last report is counted a moment before librdkafka counts its record out, and what follows would wait
        // for the reports on this thread, in steps of 100 ms.
        while self.client.in_flight_count() > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_micros(100));
        }
        if !offsets.is_empty() {
            self.send_offsets(offsets, member, until)?;
        }
        let done = again(until, |time| self.client.commit_transaction(time));
        match done.map_err(|e| classed(&self.error_context, what, &e)) {
            Ok(()) => {
                self.transaction = Transaction::None;
                self.error_context.health.well();
                Ok(())
            }
            Err(e @ (LogError::Abortable { .. } | LogError::NotMember { .. })) => Err(e),
            Err(e @ (LogError::Fenced { .. } | LogError::Fatal { .. })) => Err(self.ended(e)),
            Err(e) => {
                let reason = format!("{e}; whether it was committed is not known: start over with a new producer");
                Err(self.ended(LogError::Fatal { what: what.into(), reason }))
            }
        }
    }

    fn send_offsets(&mut self, offsets: &Commits, member: Option<&GroupMetadata>, until: Instant) -> LogResult<()> {
        let what = "adding offsets to a transaction";
        let abort = |reason: &str| LogError::Abortable { what: what.into(), reason: reason.to_owned() };
        let member = member.ok_or_else(|| abort("there is no membership to commit them under"))?;
        let metadata = member.detail.downcast_ref::<ConsumerGroupMetadata>();
        let metadata = metadata.ok_or_else(|| abort("the membership is of another log"))?;
        let list = commits(offsets).map_err(|e| self.error_context.error(what, &e))?;
        let sent = again(until, |time| self.client.send_offsets_to_transaction(&list, metadata, time));
        sent.map_err(|e| match classed(&self.error_context, what, &e) {
            LogError::NotMember { what, reason, .. } => {
                LogError::NotMember { what, group: member.group.to_string(), reason }
            }
            // Nothing is committed yet, so that the transaction can still be given up.
            e @ (LogError::Retriable { .. } | LogError::Timeout { .. } | LogError::Unreachable { .. }) => {
                abort(&e.to_string())
            }
            e => self.ended(e),
        })
    }

    pub(super) fn abort(&mut self, before: u64) -> LogResult<()> {
        let what = "aborting a transaction";
        self.alive(what)?;
        self.purge_if_asked();
        self.finish(before);
        if !self.transaction.is_open() {
            return Ok(());
        }
        let until = Instant::now() + self.bound;
        let done = again(until, |time| self.client.abort_transaction(time));
        match done.map_err(|e| classed(&self.error_context, what, &e)) {
            Ok(()) => {
                self.transaction = Transaction::None;
                Ok(())
            }
            Err(e) => Err(self.ended(e)),
        }
    }
}
