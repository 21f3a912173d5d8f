//! Offices that send tasks to desks, for tests of the outcomes of messages, timers and jobs.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use faststate_core::{
    Access, Address, Context, Elements, Event, Job, JobContext, MemoryStore, PrepareContext, ReactiveState,
    Rejection, Retry, StateConfig, StateRegistry, Store,
    registry::{RegistryBuilder, UnfinishedMessage},
};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

/// How an event reacts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reaction {
    #[default]
    Accept,
    Reject,
    Panic,
    /// `prepare` does not return.
    HangInPrepare,
    /// Rejects while the office is closed.
    RejectWhileClosed,
    /// Sends a message of 65 KiB.
    SendTooMuch,
    /// Sends a message to a record without an id.
    SendToNowhere,
    /// Sends 300 messages.
    SendTooMany,
    /// Sends ten messages.
    SendTen,
    /// Broadcasts 300 KiB.
    BroadcastTooMuch,
}

impl Reaction {
    async fn prepare(self) {
        if self == Self::HangInPrepare {
            pending().await
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Office {
    pub(crate) done: u32,
    pub(crate) refused: u32,
    pub(crate) is_open: bool,
    /// The rejection that the last follow-up of a refused task has received.
    pub(crate) last_rejection: String,
    /// The names of the timers that have fired.
    pub(crate) rang: Vec<String>,
}

impl ReactiveState for Office {
    const NAME: &'static str = "office";
}

/// Sends a task to a desk.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Send {
    pub(crate) desk: String,
    pub(crate) task: Reaction,
    pub(crate) follow_up: Reaction,
}

impl Send {
    pub(crate) fn to(desk: &str) -> Self {
        Self { desk: desk.to_owned(), ..Self::default() }
    }

    pub(crate) fn task(self, task: Reaction) -> Self {
        Self { task, ..self }
    }

    pub(crate) fn follow_up(self, follow_up: Reaction) -> Self {
        Self { follow_up, ..self }
    }
}

impl Event for Send {
    type State = Office;
    const NAME: &'static str = "send";

    fn apply(&self, _: &mut Office, context: &mut Context<Office>) -> Result<(), Rejection> {
        let reaction = self.follow_up;
        let sent =
            context.send(Address::record(&self.desk), Task { task: self.task, padding: String::new() });
        sent.then(FollowUp { reaction, is_refused: false }).or_else(FollowUp { reaction, is_refused: true });
        Ok(())
    }
}

/// Sends several tasks at once.
#[derive(Serialize, Deserialize)]
pub(crate) struct SendAll(pub(crate) Vec<Send>);

impl Event for SendAll {
    type State = Office;
    const NAME: &'static str = "send_all";

    fn apply(&self, office: &mut Office, context: &mut Context<Office>) -> Result<(), Rejection> {
        self.0.iter().try_for_each(|send| send.apply(office, context))
    }
}

/// Follows a task.
#[derive(Serialize, Deserialize)]
pub(crate) struct FollowUp {
    reaction: Reaction,
    is_refused: bool,
}

impl Event for FollowUp {
    type State = Office;
    const NAME: &'static str = "follow_up";

    async fn prepare(&mut self, _: &PrepareContext) -> Result<(), Rejection> {
        self.reaction.prepare().await;
        Ok(())
    }

    fn apply(&self, office: &mut Office, context: &mut Context<Office>) -> Result<(), Rejection> {
        let task = |padding| Task { task: Reaction::Accept, padding: "x".repeat(padding) };
        office.done += u32::from(!self.is_refused);
        office.refused += u32::from(self.is_refused);
        office.last_rejection = context.rejection().map(ToString::to_string).unwrap_or_default();
        match self.reaction {
            Reaction::Reject => return Err(Rejection::conflict("no follow-up")),
            Reaction::RejectWhileClosed if !office.is_open => return Err(Rejection::conflict("closed")),
            Reaction::Panic => panic!("a follow-up panics"),
            Reaction::SendTooMuch => _ = context.send(Address::record("good"), task(65 << 10)),
            Reaction::SendToNowhere => _ = context.send(Address::record(""), task(0)),
            Reaction::SendTooMany => {
                (0..300).for_each(|_| _ = context.send(Address::record("good"), task(0)));
            }
            Reaction::SendTen => (0..10).for_each(|_| _ = context.send(Address::record("good"), task(0))),
            Reaction::BroadcastTooMuch => {
                context.broadcast(Elements::inner("body", "x".repeat(300 << 10)));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Sends several messages to the desk `good` at once.
#[derive(Serialize, Deserialize)]
pub(crate) struct SendMany {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

impl Event for SendMany {
    type State = Office;
    const NAME: &'static str = "send_many";

    fn apply(&self, _: &mut Office, context: &mut Context<Office>) -> Result<(), Rejection> {
        for _ in 0..self.messages {
            let task = Task { task: Reaction::Accept, padding: "x".repeat(self.bytes) };
            context.send(Address::record("good"), task);
        }
        Ok(())
    }
}

/// Opens the office.
#[derive(Serialize, Deserialize)]
pub(crate) struct Open {}

impl Event for Open {
    type State = Office;
    const NAME: &'static str = "open";

    fn apply(&self, office: &mut Office, _: &mut Context<Office>) -> Result<(), Rejection> {
        office.is_open = true;
        Ok(())
    }
}

/// Sets a timer.
#[derive(Serialize, Deserialize)]
pub(crate) struct SetAlarm {
    pub(crate) name: String,
    pub(crate) at: SystemTime,
    pub(crate) reaction: Reaction,
}

impl Event for SetAlarm {
    type State = Office;
    const NAME: &'static str = "set_alarm";

    fn apply(&self, _: &mut Office, context: &mut Context<Office>) -> Result<(), Rejection> {
        context.schedule(&self.name, self.at, Ring { name: self.name.clone(), reaction: self.reaction });
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Ring {
    name: String,
    reaction: Reaction,
}

impl Event for Ring {
    type State = Office;
    const NAME: &'static str = "ring";

    async fn prepare(&mut self, _: &PrepareContext) -> Result<(), Rejection> {
        self.reaction.prepare().await;
        Ok(())
    }

    fn apply(&self, office: &mut Office, _: &mut Context<Office>) -> Result<(), Rejection> {
        office.rang.push(self.name.clone());
        match self.reaction {
            Reaction::Reject => Err(Rejection::conflict("no alarm")),
            Reaction::Panic => panic!("an alarm panics"),
            _ => Ok(()),
        }
    }
}

/// Requests a job.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) job: Trouble,
}

impl Event for Request {
    type State = Office;
    const NAME: &'static str = "request";

    fn apply(&self, _: &mut Office, context: &mut Context<Office>) -> Result<(), Rejection> {
        context.run(Chore { trouble: self.job });
        Ok(())
    }
}

/// The trouble of the first attempt of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Trouble {
    None,
    Panic,
    Hang,
    /// The input panics while it is decoded.
    PanicInInput,
    /// The input does not decode.
    Undecodable,
}

#[derive(Serialize)]
struct Chore {
    trouble: Trouble,
}

impl<'a> Deserialize<'a> for Chore {
    fn deserialize<D: Deserializer<'a>>(input: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Input {
            trouble: Trouble,
        }
        let Input { trouble } = Input::deserialize(input)?;
        match trouble {
            Trouble::PanicInInput => panic!("the input panics"),
            Trouble::Undecodable => Err(D::Error::custom("not a chore")),
            trouble => Ok(Self { trouble }),
        }
    }
}

/// The number of attempts and of successes of [`Chore`].
#[derive(Clone, Default)]
pub(crate) struct Chores(pub(crate) Arc<[AtomicUsize; 2]>);

impl Chores {
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.0[0].load(SeqCst), self.0[1].load(SeqCst))
    }
}

impl Job for Chore {
    const NAME: &'static str = "chore";
    const TIMEOUT: Duration = Duration::from_secs(20);

    async fn run(&self, job: &JobContext) -> Result<(), Retry> {
        let chores = job.resource::<Chores>().unwrap();
        chores.0[0].fetch_add(1, SeqCst);
        match self.trouble {
            Trouble::Panic if job.attempt() == 1 => panic!("a job panics"),
            Trouble::Hang if job.attempt() == 1 => pending().await,
            _ => {}
        }
        chores.0[1].fetch_add(1, SeqCst);
        Ok(())
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Desk {
    pub(crate) tasks: u32,
    /// The number of balls that it has returned.
    pub(crate) returned: u32,
}

impl ReactiveState for Desk {
    const NAME: &'static str = "desk";
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Task {
    task: Reaction,
    padding: String,
}

impl Event for Task {
    type State = Desk;
    const NAME: &'static str = "task";

    fn apply(&self, desk: &mut Desk, _: &mut Context<Desk>) -> Result<(), Rejection> {
        desk.tasks += 1;
        match self.task {
            Reaction::Reject => Err(Rejection::conflict("no task")),
            Reaction::Panic => panic!("a task panics"),
            _ => Ok(()),
        }
    }
}

/// A message that a desk sends on to another one, endlessly.
#[derive(Serialize, Deserialize)]
pub(crate) struct Ball {
    pub(crate) from: String,
    pub(crate) to: String,
}

impl Event for Ball {
    type State = Desk;
    const NAME: &'static str = "ball";

    fn apply(&self, desk: &mut Desk, context: &mut Context<Desk>) -> Result<(), Rejection> {
        desk.returned += 1;
        context.send(Address::record(&self.to), Self { from: self.to.clone(), to: self.from.clone() });
        Ok(())
    }
}

fn record() -> StateConfig {
    StateConfig::record().access(Access::public()).persist()
}

/// Adds the offices. The desk `missing` does not exist.
pub(crate) fn offices(builder: RegistryBuilder, chores: &Chores) -> RegistryBuilder {
    offices_with(builder.job::<Chore>(), chores, record())
}

/// Adds the offices with a configuration, without the job.
pub(crate) fn offices_with(
    builder: RegistryBuilder,
    chores: &Chores,
    config: StateConfig,
) -> RegistryBuilder {
    let builder = builder.resource(chores.clone()).state::<Office>(config.sends_messages(), |state| {
        let state =
            state.event::<Send>().event::<SendAll>().event::<SendMany>().event::<Open>().event::<SetAlarm>();
        state.event::<Request>().message::<FollowUp>().message::<Ring>()
    });
    builder.state::<Desk>(record().sends_messages(), |state| {
        let state = state.message::<Task>().event::<Ball>();
        state.initial(|key| async move { (key.id().as_deref() != Some("missing")).then(Desk::default) })
    })
}

/// A registry with offices over this store.
pub(crate) fn office_registry(store: &Arc<MemoryStore>, chores: &Chores) -> Arc<StateRegistry> {
    offices(StateRegistry::builder().store(Arc::clone(store)), chores).build().unwrap()
}

/// Returns the reasons of the parked messages, and the number of the others.
pub(crate) async fn unfinished(registry: &StateRegistry) -> (Vec<String>, usize) {
    let messages = registry.unfinished_messages(9_999).await.unwrap();
    let parked: Vec<_> = messages.iter().filter_map(|message| message.parked.clone()).collect();
    let waiting = messages.len() - parked.len();
    (parked, waiting)
}

/// Returns the only unfinished message.
pub(crate) async fn only_unfinished(registry: &StateRegistry) -> UnfinishedMessage {
    let messages = registry.unfinished_messages(9).await.unwrap();
    assert_eq!(messages.len(), 1, "{messages:?}");
    messages.into_iter().next().unwrap()
}

/// Changes the text of a record's pending messages, as if another version of the application had written it.
pub(crate) async fn rewrite_pending(
    store: &MemoryStore,
    key: &faststate_core::Key,
    rewrite: impl Fn(String) -> String,
) {
    let mut record = store.load(key, None).await.unwrap().record.unwrap();
    let expect = faststate_core::store::Precondition::Version(record.version);
    record.version = record.version.next();
    record.pending.data = rewrite(String::from_utf8(record.pending.data.to_vec()).unwrap()).into();
    store.save(key, &record, expect, None).await.unwrap();
}
