//! A run from its beginning to what is left of it: one future polls the director and then every machine.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use super::faults::Faults;
use super::outcome::{Outcome, collect};
use super::plan::Plan;
use super::world::{Shared, World};
use super::{SimulationError, SimulationReport, audit, director};

/// Runs a plan once and gives what it left behind.
pub(super) fn run(plan: &Rc<Plan>, faults: Faults) -> Result<(Outcome, SimulationReport), SimulationError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.map_err(|error| SimulationError::Runtime(error.to_string()))?;
    runtime.block_on(async {
        let world = Rc::new(RefCell::new(World::new(plan, faults).await?));
        let mut directed = pin!(direct(Rc::clone(&world)));
        poll_fn(|cx| {
            if let Poll::Ready(outcome) = directed.as_mut().poll(cx) {
                return Poll::Ready(outcome);
            }
            world.borrow_mut().poll_nodes(cx);
            Poll::Pending
        })
        .await
    })
}

/// The whole of a run, as the director sees it.
async fn direct(world: Shared) -> Result<(Outcome, SimulationReport), SimulationError> {
    director::trouble(&world).await;
    director::end_trouble(&world);
    audit::drained(&world).await?;
    audit::stopped(&world).await?;
    let (log, graphs, outputs, tables) = {
        let world = world.borrow();
        (Arc::clone(&world.log), world.graphs.clone(), world.plan.outputs(&world.graphs), Plan::tables(&world.graphs))
    };
    audit::commits(&world)?;
    audit::stores(&world).await?;
    let mut outcome = collect(&log, &graphs, &outputs, &tables).await?;
    let mut world = world.borrow_mut();
    outcome.fates = std::mem::take(&mut world.fates);
    world.report.trace = world.trace.hash();
    world.report.stale_writes = world.owners.stale();
    Ok((outcome, world.report.clone()))
}
