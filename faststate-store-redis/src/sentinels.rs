//! Asks sentinels for the primary of a service, and notices when they name another one.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bb8_redis::redis::{Pipeline, PushInfo, PushKind, RedisResult, Value, from_redis_value};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    address::ServerAddress,
    dialer::{ConnectError, Dialer, RedisLink},
};

/// The channels on which a sentinel announces that a service has another primary: `+promoted-slave` if it leads the
/// failover, and `+switch-master` if another one does.
const SWITCHES: [&str; 3] = [PROMOTION, "+promoted-slave", "+switch-master"];
/// The channel on which the sentinel that leads a failover announces that it is about to promote a replica.
const PROMOTION: &str = "+failover-state-send-slaveof-noone";
/// Time for which a primary is not used after that announcement, unless the sentinels name another one before.
const PROMOTION_TIME: Duration = Duration::from_secs(3);
/// Time between two questions to a sentinel, in case it announces nothing.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// Time for one sentinel to answer.
const ASK_TIMEOUT: Duration = Duration::from_millis(400);
/// Maximum pause before a sentinel is watched again.
const MAX_WATCH_PAUSE: Duration = Duration::from_millis(400);

/// The sentinels of one service.
#[derive(Clone)]
pub(crate) struct Sentinels {
    dialer: Dialer,
    hosts: Arc<[ServerAddress]>,
    service: Arc<str>,
    /// The primary that any sentinel has named with the latest epoch.
    named: watch::Sender<Option<NamedPrimary>>,
    /// A primary that is about to be replaced, and when the sentinels are believed to have given up.
    leaving: watch::Sender<Option<(ServerAddress, Instant)>>,
    /// The sentinel that answered last, which is asked first. Relaxed: any sentinel is correct.
    first: Arc<AtomicUsize>,
}

/// A primary, and the epoch of the sentinels' decision for it. A later decision has a higher epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NamedPrimary {
    epoch: u64,
    server: ServerAddress,
}

impl Sentinels {
    pub(crate) fn new(hosts: Arc<[ServerAddress]>, service: &str, dialer: &Dialer) -> Self {
        let dialer = dialer.with_connect_timeout(ASK_TIMEOUT);
        Self {
            dialer,
            hosts,
            service: service.into(),
            named: watch::Sender::default(),
            leaving: watch::Sender::default(),
            first: Arc::default(),
        }
    }

    /// Asks the sentinels one after another, and returns the primary of the latest decision.
    pub(crate) async fn find(&self) -> Result<ServerAddress, ConnectError> {
        let mut failure = ConnectError::NoHost;
        let first = self.first.load(Ordering::Relaxed);
        for at in (0..self.hosts.len()).map(|at| (first + at) % self.hosts.len()) {
            let sentinel = &self.hosts[at];
            let answer = async {
                let mut link = self.dialer.dial(sentinel, |_| {}).await?;
                self.ask(sentinel, &mut link).await
            };
            match answer.await {
                Ok(server) => {
                    self.first.store(at, Ordering::Relaxed);
                    return Ok(server);
                }
                // A wrong password or certificate says more than a sentinel that is down.
                Err(error) if !failure.is_permanent() || error.is_permanent() => failure = error,
                Err(_) => {}
            }
        }
        Err(failure)
    }

    /// Whether the sentinels name no other primary than this one, and are not about to.
    pub(crate) fn is_current(&self, server: &ServerAddress) -> bool {
        let leaves =
            |(leaving, until): &(ServerAddress, Instant)| leaving == server && *until > Instant::now();
        self.named.borrow().as_ref().is_none_or(|named| named.server == *server)
            && !self.leaving.borrow().as_ref().is_some_and(leaves)
    }

    /// Waits until the sentinels name another primary than this one, or are about to.
    pub(crate) async fn replaced(&self, server: &ServerAddress) {
        // Subscribed before the check, so that no announcement is missed.
        let (mut named, mut leaving) = (self.named.subscribe(), self.leaving.subscribe());
        while self.is_current(server) {
            // Neither fails, because `self` holds the senders.
            tokio::select! {
                _ = named.changed() => {}
                _ = leaving.changed() => {}
            }
        }
    }

    /// Forgets the latest decision: a primary that cannot be reached does not prevent an older one. The sentinels may
    /// have begun again with lower epochs.
    pub(crate) fn forget(&self, server: &ServerAddress) {
        self.named.send_if_modified(|named| {
            let forgets = named.as_ref().is_some_and(|named| named.server == *server);
            if forgets {
                *named = None;
            }
            forgets
        });
    }

    /// Watches the sentinels, until the task is aborted.
    ///
    /// A primary that is replaced on request, or that only the sentinels cannot reach, goes on accepting writes for
    /// seconds, and they are lost when it becomes a replica. Only the sentinel that leads a failover announces it in
    /// time, so all of them are watched.
    pub(crate) async fn watch(self) {
        let mut watched = JoinSet::new();
        for sentinel in self.hosts.iter().cloned() {
            watched.spawn(self.clone().keep_watching(sentinel));
        }
        watched.join_all().await;
    }

    async fn keep_watching(self, sentinel: ServerAddress) {
        loop {
            if let Err(error) = self.watch_one(&sentinel).await {
                tracing::debug!(error = &error as &dyn std::error::Error, "a sentinel is not watched");
            }
            sleep(MAX_WATCH_PAUSE.mul_f64(rand::random())).await;
        }
    }

    async fn watch_one(&self, sentinel: &ServerAddress) -> Result<(), ConnectError> {
        let announced = Arc::new(Notify::new());
        let notice = Arc::clone(&announced);
        let sentinels = self.clone();
        let on_push = move |push: PushInfo| {
            if push.kind == PushKind::Message {
                sentinels.note_promotion(&push.data);
            }
            if matches!(push.kind, PushKind::Message | PushKind::Disconnection) {
                notice.notify_one();
            }
        };
        let mut link = self.dialer.dial(sentinel, on_push).await?;
        let failed = |source| ConnectError::Server { server: sentinel.clone(), source };
        link.redis.subscribe(&SWITCHES[..]).await.map_err(failed)?;
        loop {
            self.ask(sentinel, &mut link).await?;
            // Either is a reason to ask again.
            let _ = timeout(ASK_INTERVAL, announced.notified()).await;
        }
    }

    /// Asks one sentinel, and returns the primary of the latest decision of all.
    async fn ask(
        &self,
        sentinel: &ServerAddress,
        link: &mut RedisLink,
    ) -> Result<ServerAddress, ConnectError> {
        let failed = |source| ConnectError::Server { server: sentinel.clone(), source };
        let mut questions = Pipeline::with_capacity(2);
        // During a failover, only the first answer is the new primary, and only the second one has the epoch.
        questions.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&*self.service);
        questions.cmd("SENTINEL").arg("MASTER").arg(&*self.service);
        let asked = questions.ignore_errors().query_async(&mut link.redis);
        let answers: RedisResult<Vec<RedisResult<Value>>> = timeout(ASK_TIMEOUT, asked)
            .await
            .map_err(|_| ConnectError::Late { server: sentinel.clone(), phase: "its answer", advice: "" })?;
        let [address, details]: [RedisResult<Value>; 2] = answers
            .map_err(failed)?
            .try_into()
            .map_err(|_| ConnectError::Ended { server: sentinel.clone() })?;
        let address: Option<(String, u16)> =
            address.and_then(|address| Ok(from_redis_value(address)?)).map_err(failed)?;
        let Some((host, port)) = address else {
            return Err(ConnectError::UnknownService { service: self.service.to_string() });
        };
        let details: Option<HashMap<String, String>> =
            details.ok().and_then(|details| from_redis_value(details).ok());
        let epoch = details.and_then(|details| details.get("config-epoch")?.parse().ok()).unwrap_or(0);
        Ok(self.note(NamedPrimary { epoch, server: ServerAddress::Tcp { host, port } }))
    }

    /// Records that the primary is about to be replaced, if the message announces it:
    /// `slave 10.0.0.2:6379 10.0.0.2 6379 @ mymaster 10.0.0.1 6379`.
    fn note_promotion(&self, message: &[Value]) {
        let [Value::BulkString(channel), Value::BulkString(text)] = message else { return };
        let Ok(text) = std::str::from_utf8(text) else { return };
        let Some((_, primary)) = text.split_once(" @ ") else { return };
        let mut words = primary.split(' ');
        let (service, host, port) = (words.next(), words.next(), words.next());
        let Some(port) = port.and_then(|port| port.parse().ok()) else { return };
        if channel == PROMOTION.as_bytes() && service == Some(&*self.service) {
            let server = ServerAddress::Tcp { host: host.unwrap_or_default().to_owned(), port };
            self.leaving.send_replace(Some((server, Instant::now() + PROMOTION_TIME)));
        }
    }

    /// Records an answer unless a later decision is known. Returns the primary of the latest decision.
    fn note(&self, answer: NamedPrimary) -> ServerAddress {
        self.named.send_if_modified(|named| {
            let is_new = named.as_ref().is_none_or(|named| answer.epoch >= named.epoch && *named != answer);
            if is_new {
                *named = Some(answer.clone());
            }
            is_new
        });
        self.named.borrow().as_ref().map_or(answer.server, |named| named.server.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::{Pin, pin},
        task::{Context, Waker},
    };

    use super::*;
    use crate::{address::RedisAddress, dialer::Timeouts};

    fn named(epoch: u64, port: u16) -> NamedPrimary {
        NamedPrimary { epoch, server: ServerAddress::Tcp { host: "a".to_owned(), port } }
    }

    fn sentinels(address: &str) -> Sentinels {
        let address = RedisAddress::parse(address).unwrap();
        let timeouts = Timeouts { connect: Duration::from_secs(1), answer: Duration::from_secs(1) };
        let dialer = Dialer::new(&address, timeouts).unwrap();
        Sentinels::new(address.hosts.into(), "mymaster", &dialer)
    }

    fn announce(sentinels: &Sentinels, channel: &str, text: &str) {
        sentinels.note_promotion(&[channel, text].map(|text| Value::BulkString(text.into())));
    }

    fn has_ended(wait: Pin<&mut impl Future<Output = ()>>) -> bool {
        wait.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn older_decision_of_another_sentinel_is_ignored() {
        let sentinels = sentinels("redis+sentinel://a,b/mymaster");
        let (old, new) = (named(4, 1), named(5, 2));
        assert!(sentinels.is_current(&old.server) && sentinels.is_current(&new.server), "nothing is known");
        assert_eq!(sentinels.note(old.clone()), old.server);
        assert_eq!(sentinels.note(new.clone()), new.server);
        assert_eq!(sentinels.note(old.clone()), new.server, "a sentinel that has not heard of the switch");
        assert!(!sentinels.is_current(&old.server) && sentinels.is_current(&new.server));
        // The sentinels were replaced and begin again with epoch 0.
        sentinels.forget(&old.server);
        assert_eq!(sentinels.note(named(0, 3)), new.server);
        sentinels.forget(&new.server);
        assert_eq!(sentinels.note(named(0, 3)), named(0, 3).server);
    }

    #[test]
    fn law_01_primary_that_is_about_to_be_replaced_is_left() {
        let sentinels = sentinels("redis+sentinel://a/mymaster");
        let (old, new) = (named(4, 1).server, named(5, 2).server);
        announce(&sentinels, "+sdown", "slave b:2 b 2 @ mymaster a 1");
        announce(&sentinels, PROMOTION, "slave b:2 b 2 @ another a 1");
        announce(&sentinels, PROMOTION, "slave b:2 b 2");
        assert!(sentinels.is_current(&old));
        announce(&sentinels, PROMOTION, "slave b:2 b 2 @ mymaster a 1");
        assert!(!sentinels.is_current(&old) && sentinels.is_current(&new));
        assert_eq!(sentinels.note(named(5, 2)), new);
        assert!(!sentinels.is_current(&old) && sentinels.is_current(&new));
    }

    #[test]
    fn law_13_wait_for_a_replacement_ends_before_the_promotion() {
        let sentinels = sentinels("redis+sentinel://a/mymaster");
        let (old, new) = (named(4, 1).server, named(5, 2).server);
        let (mut old_wait, mut new_wait) = (pin!(sentinels.replaced(&old)), pin!(sentinels.replaced(&new)));
        assert!(!has_ended(old_wait.as_mut()));
        announce(&sentinels, PROMOTION, "slave b:2 b 2 @ another a 1");
        assert!(!has_ended(old_wait.as_mut()));
        announce(&sentinels, PROMOTION, "slave b:2 b 2 @ mymaster a 1");
        assert!(has_ended(old_wait));
        assert!(has_ended(pin!(sentinels.replaced(&old))), "a connection made during the promotion ends");
        assert!(!has_ended(new_wait.as_mut()));
        sentinels.note(named(6, 3));
        assert!(has_ended(new_wait));
    }
}
