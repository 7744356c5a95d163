//! An instance's membership of its group. See [`client`](super::client).

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::client_fetch::SimFetch;
use super::life::Life;
use crate::log::{Assigned, Commits, Fetch, GroupHandle, GroupMetadata, LogError, LogResult, Member, MemberEvent};

pub(super) struct SimMember {
    inner: Box<dyn Member>,
    life: Arc<Life>,
}

impl SimMember {
    pub(super) fn new(inner: Box<dyn Member>, life: Arc<Life>) -> Self {
        Self { inner, life }
    }

    fn wrap(&self, event: MemberEvent) -> MemberEvent {
        let life = &self.life;
        match event {
            MemberEvent::Assigned(assigned) => {
                life.gains(assigned.iter().map(|a| &a.partition));
                let wrap = |a: Assigned| {
                    let fetch = SimFetch::new(a.fetch, a.partition.clone(), Arc::clone(life));
                    life.note(format_args!("assigned {} from {}", a.partition, a.start));
                    Assigned { fetch: Box::new(fetch) as Box<dyn Fetch>, ..a }
                };
                MemberEvent::Assigned(assigned.into_iter().map(wrap).collect())
            }
            MemberEvent::Revoking { partitions, done } => {
                life.note(format_args!("revoking {partitions:?}"));
                MemberEvent::Revoking { partitions, done: life.hold(done) }
            }
            MemberEvent::Lost(partitions) => {
                life.note(format_args!("lost {partitions:?}"));
                life.loses(&partitions);
                MemberEvent::Lost(partitions)
            }
        }
    }
}

impl crate::log::Sealed for SimMember {}

impl Member for SimMember {
    fn next(&mut self) -> BoxFuture<'_, LogResult<MemberEvent>> {
        async move {
            if self.life.is_dead() {
                return std::future::pending().await;
            }
            let event = self.inner.next().await;
            if !self.life.pass("member event") {
                return std::future::pending().await;
            }
            event.map(|event| self.wrap(event))
        }
        .boxed()
    }

    fn group(&self) -> Arc<dyn GroupHandle> {
        Arc::new(SimGroup { inner: self.inner.group(), life: Arc::clone(&self.life) })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, LogResult<()>> {
        let Self { inner, life } = *self;
        life.note(format_args!("leaves"));
        life.call("leave", move || inner.close())
    }
}

struct SimGroup {
    inner: Arc<dyn GroupHandle>,
    life: Arc<Life>,
}

impl crate::log::Sealed for SimGroup {}

impl GroupHandle for SimGroup {
    fn commit_with_metadata(&self, offsets: Commits) -> BoxFuture<'static, LogResult<()>> {
        let (inner, life) = (Arc::clone(&self.inner), Arc::clone(&self.life));
        let losses = self.life.losses();
        self.life.call_in_order("commit", move || {
            async move {
                // A request says whose member it comes from, and arrives before this member says that it has let go.
                if life.lost_since(losses, &offsets) {
                    let reason = "the partitions were lost while the commit was on its way".to_owned();
                    return Err(LogError::NotMember { what: "commit".to_owned(), group: String::new(), reason });
                }
                let text = format!("{offsets:?}");
                let result = inner.commit_with_metadata(offsets).await;
                life.note(format_args!("commit {text}: {result:?}"));
                result
            }
            .boxed()
        })
    }

    fn metadata(&self) -> Option<GroupMetadata> {
        self.inner.metadata()
    }
}
