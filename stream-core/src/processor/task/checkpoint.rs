//! Checkpoints of a task's stores, in steps between other work.
//!
//! Once a checkpoint has failed, none may be gone on with or begun: what it was to write would be missing below the
//! offset that it records.

use tokio::time::Instant;

use super::{Checkpointing, Task};
use crate::processor::error::{ProcessorError, ProcessorResult};

impl Task {
    pub(super) async fn checkpoint_step(&mut self) -> ProcessorResult<()> {
        let (now, chunk) = (self.core.clock.now_ms(), self.env.options.checkpoint_chunk);
        let store = |e| ProcessorError::store(self.core.graph.name(), e);
        if self.checkpoint == Checkpointing::No {
            for table in self.core.tables.iter() {
                let mut table = table.borrow_mut();
                if table.behind() {
                    table.checkpoint_begin();
                    self.checkpoint = Checkpointing::Writing;
                }
            }
        }
        if self.checkpoint == Checkpointing::Writing {
            if let Some(table) = self.core.tables.iter().find(|t| t.borrow().is_checkpointing()) {
                let (buffers, all) = (self.env.memory.buffers(), self.buffered());
                let mut table = table.borrow_mut();
                let done = table.checkpoint_step(now, chunk).map_err(store)?;
                if done && (table.buffered() > buffers.of_one || all > buffers.of_all) {
                    table.evict();
                }
            }
            if !self.core.tables.iter().any(|t| t.borrow().is_checkpointing()) {
                self.checkpoint = Checkpointing::No;
            }
        }
        if self.checkpoint == Checkpointing::No {
            for join in &mut self.joins {
                join.checkpoint(now).map_err(store)?;
            }
            self.next_checkpoint.as_mut().reset(Instant::now() + self.env.options.checkpoint_interval);
        }
        tokio::task::yield_now().await;
        Ok(())
    }

    /// Bytes of all write buffers.
    fn buffered(&self) -> usize {
        self.core.tables.iter().map(|table| table.borrow().buffered()).sum()
    }

    /// Whether the write buffers have all that they may, and a checkpoint or acknowledgements make room.
    pub(super) fn makes_room(&self) -> bool {
        let waits = self.checkpoint != Checkpointing::No || !self.outbox.is_empty();
        waits && self.buffered() > self.env.memory.buffers().most
    }

    /// A checkpoint comes early when the buffers exceed their bounds.
    pub(super) fn bound_buffer(&mut self) {
        if self.checkpoint != Checkpointing::No {
            return;
        }
        let buffers = self.env.memory.buffers();
        let all = self.buffered() > buffers.of_all;
        for table in self.core.tables.iter() {
            let mut table = table.borrow_mut();
            if all || table.buffered() > buffers.of_one {
                if table.behind() {
                    table.checkpoint_begin();
                    self.checkpoint = Checkpointing::Writing;
                } else {
                    table.evict();
                }
            }
        }
    }

    /// Records in the store what is acknowledged, so that a restart need not read it again.
    pub(super) async fn close(mut self) -> ProcessorResult<()> {
        // A checkpoint that is half done ends first, then one more takes in what came since.
        while self.checkpoint == Checkpointing::Writing {
            self.checkpoint_step().await?;
        }
        self.checkpoint_step().await?;
        while self.checkpoint == Checkpointing::Writing {
            self.checkpoint_step().await?;
        }
        Ok(())
    }
}
