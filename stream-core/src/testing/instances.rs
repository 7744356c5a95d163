//! The groups of a tester and their instances: added, started, stopped and crashed.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::error::TesterError;
use super::tester::{Instance, Running, Tester};
use crate::group::GroupGraph;
use crate::processor::progress::input_ends;
use crate::processor::{Handle, Processor, ProcessorError, State};
use crate::store::MemoryStores;
use crate::topics::{TopicOptions, ensure};

impl Tester {
    /// Adds a group and starts it; missing topics are made.
    ///
    /// # Errors
    /// When its topics are not as it needs them.
    pub fn add(&self, graph: Arc<GroupGraph>) -> Result<(), TesterError> {
        self.add_with(graph, |processor| processor)
    }

    /// Adds a group with settings of the caller's, such as
    /// [`OnFailure`](crate::processor::OnFailure) or a commit interval.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn add_with(
        &self,
        graph: Arc<GroupGraph>,
        set: impl Fn(Processor) -> Processor + 'static,
    ) -> Result<(), TesterError> {
        let options = TopicOptions { partitions: Some(self.0.partitions), ..TopicOptions::default() };
        self.block_on(ensure(&self.0.log, &graph, &options, &|_| {})).map_err(ProcessorError::from)?;
        let name = graph.name().to_owned();
        self.0.groups.borrow_mut().insert(name.clone(), Running { graph, set: Rc::new(set), instances: Vec::new() });
        self.add_instance(&name).map(|_| ())
    }

    /// Adds another instance of a group, with its own stores, and starts it: its partitions come from the others.
    /// The first instance is number 0. Returns its number.
    ///
    /// # Errors
    /// When there is no such group, or the instance can't start.
    pub fn add_instance(&self, group: &str) -> Result<usize, TesterError> {
        let instance = self.with_group(group, |running| {
            let handle = Processor::new(Arc::clone(&running.graph), Arc::clone(&self.0.log)).handle();
            let stores = Arc::new(MemoryStores::new());
            let counters = Arc::default();
            let ran = Arc::default();
            running.instances.push(Instance { stores, handle, counters, ran, run: None, failure: None });
            running.instances.len() - 1
        })?;
        self.start_instance(group, instance)?;
        Ok(instance)
    }

    /// Starts an instance that was stopped, has crashed or has failed, on what it left. The only one of its group is
    /// waited for until it has all partitions, which after a crash is when its former self is given up.
    ///
    /// # Errors
    /// When there is none, it can't start, or it does not run although a long (virtual) time has passed.
    pub fn start_instance(&self, group: &str, instance: usize) -> Result<(), TesterError> {
        let handle = self.spawn_instance(group, instance)?;
        let running = self.block_on(async { tokio::time::timeout(self.wait_limit(), handle.running()).await });
        if running.map_err(|_| TesterError::Never(format!("a start of group {group}")))?.is_err()
            && !self.with_instance(group, instance, |i| i.ran.load(Ordering::Relaxed))?
        {
            self.collect_failures();
            let failure = self.with_instance(group, instance, |i| i.failure.clone())?;
            return failure.map_or(Ok(()), |e| Err(e.into()));
        }
        let (graph, alone) = self.with_group(group, |r| {
            (Arc::clone(&r.graph), r.instances.iter().filter(|i| i.run.is_some()).count() == 1)
        })?;
        if alone {
            let all = self.block_on(input_ends(&self.0.log, &graph))?.len();
            let has_all = handle.wait_for(|s| s.tasks.len() == all && s.state != State::Restoring);
            // A caller that gave it a longer session than that does not mean to wait for it.
            _ = self.block_on(async { tokio::time::timeout(self.wait_limit(), has_all).await });
        }
        Ok(())
    }

    /// As [`start_instance`](Self::start_instance), but does not wait until it runs.
    ///
    /// # Errors
    /// When there is none.
    pub fn spawn_instance(&self, group: &str, instance: usize) -> Result<Handle, TesterError> {
        let (graph, set) = self.with_group(group, |r| (Arc::clone(&r.graph), Rc::clone(&r.set)))?;
        self.with_instance(group, instance, |running| {
            let processor = Processor::new(graph, Arc::clone(&self.0.log))
                .stores(Arc::clone(&running.stores) as _)
                .commit_interval(Duration::from_millis(10))
                .max_ahead(None)
                .callback_faults(self.0.faults.clone());
            let ran = Arc::new(AtomicBool::new(false));
            running.ran = Arc::clone(&ran);
            let processor = processor.on_state(move |s| _ = ran.fetch_or(s.state == State::Running, Ordering::Relaxed));
            let processor = set(processor);
            running.handle = processor.handle();
            running.counters = processor.counters();
            running.failure = None;
            running.run = Some(self.0.local.spawn_local(processor.run_here()));
            running.handle.clone()
        })
    }

    /// Stops a group, all its instances, as Ctrl-C would, and starts it again on what it left.
    ///
    /// # Errors
    /// When it can't start.
    pub fn restart(&self, group: &str) -> Result<(), TesterError> {
        self.stop(group)?;
        self.each_instance(group, |tester, instance| tester.start_instance(group, instance))
    }

    /// Ends a group as a crash would, with all its instances: nothing is finished, nothing committed.
    ///
    /// # Errors
    /// When there is no such group.
    pub fn crash(&self, group: &str) -> Result<(), TesterError> {
        self.each_instance(group, |tester, instance| tester.crash_instance(group, instance))
    }

    /// Ends one instance as a crash would. The others learn of it when its session expires.
    ///
    /// # Errors
    /// When there is none.
    pub fn crash_instance(&self, group: &str, instance: usize) -> Result<(), TesterError> {
        if let Some(run) = self.with_instance(group, instance, |i| i.run.take())? {
            run.abort();
            _ = self.block_on(run);
        }
        Ok(())
    }

    /// Stops a group, all its instances, as Ctrl-C would. Its table and topics stay.
    ///
    /// # Errors
    /// The group's failure, if it had failed.
    pub fn stop(&self, group: &str) -> Result<(), TesterError> {
        self.each_instance(group, |tester, instance| tester.stop_instance(group, instance))
    }

    /// Stops one instance as Ctrl-C would.
    ///
    /// # Errors
    /// Its failure, if it had failed.
    pub fn stop_instance(&self, group: &str, instance: usize) -> Result<(), TesterError> {
        let run = self.with_instance(group, instance, |running| {
            running.handle.stop();
            running.run.take()
        })?;
        match run.map(|run| self.block_on(run)) {
            Some(Ok(Err(error))) => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn each_instance(
        &self,
        group: &str,
        act: impl Fn(&Self, usize) -> Result<(), TesterError>,
    ) -> Result<(), TesterError> {
        let count = self.with_group(group, |running| running.instances.len())?;
        (0..count).map(|instance| act(self, instance)).fold(Ok(()), Result::and)
    }

    /// A handle to observe and steer an instance of a group.
    ///
    /// # Errors
    /// When there is none.
    pub fn handle(&self, group: &str, instance: usize) -> Result<Handle, TesterError> {
        self.with_instance(group, instance, |i| i.handle.clone())
    }

    /// The stores of an instance (unless the group was added with others).
    ///
    /// # Errors
    /// When there is none.
    pub fn stores(&self, group: &str, instance: usize) -> Result<Arc<MemoryStores>, TesterError> {
        self.with_instance(group, instance, |i| Arc::clone(&i.stores))
    }
}
