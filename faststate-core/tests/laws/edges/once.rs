//! Effects that happen once per event.

use super::*;

static WORKED: AtomicUsize = AtomicUsize::new(0);

/// Changes nothing and starts background work, which may panic at its start.
#[derive(Serialize, Deserialize)]
struct Ring {
    panics: bool,
    counts: bool,
}

impl Event for Ring {
    type State = Board;
    const NAME: &'static str = "ring";

    fn apply(&self, board: &mut Board, context: &mut Context<Board>) -> Result<(), Rejection> {
        let panics = self.panics;
        board.count += i64::from(self.counts);
        context.after(move |_| {
            assert!(!panics, "at its start");
            async {
                WORKED.fetch_add(1, Ordering::SeqCst);
            }
        });
        Ok(())
    }
}

#[tokio::test]
async fn law_03_work_without_a_change_runs_once_per_event() {
    let registry = crate::board::registry();
    let board = board(&registry);
    let ring = || board.send_as(Ring { panics: false, counts: false }, Viewer::application(), id("ring"));
    assert_eq!(ring().await.unwrap().answer, Applied::Unchanged);
    assert_eq!(ring().await.unwrap().answer, Applied::Repeated);
    registry.settle().await;
    assert_eq!(WORKED.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn panic_at_the_start_of_work_does_not_fail_the_event() {
    let registry = crate::board::registry();
    let board = board(&registry);
    let outcome = board.send(Ring { panics: true, counts: true }).await.unwrap();
    assert_eq!(outcome.answer, Applied::Changed);
    registry.settle().await;
}

static STOCK: AtomicUsize = AtomicUsize::new(1);

/// Buys the last item.
#[derive(Serialize, Deserialize)]
struct Buy;

impl Event for Buy {
    type State = Board;
    const NAME: &'static str = "buy";

    async fn prepare(&mut self, _: &PrepareContext) -> Result<(), Rejection> {
        if STOCK.load(Ordering::SeqCst) == 0 { Err(Rejection::conflict("sold out")) } else { Ok(()) }
    }

    fn apply(&self, board: &mut Board, _: &mut Context<Board>) -> Result<(), Rejection> {
        board.count += 1;
        Ok(())
    }
}

#[tokio::test]
async fn law_03_repeat_is_recognised_before_prepare_refuses() {
    let registry = crate::board::registry();
    let board = board(&registry);
    let buy = |name| board.send_as(Buy, Viewer::application(), id(name));
    assert_eq!(buy("mine").await.unwrap().answer, Applied::Changed);
    STOCK.store(0, Ordering::SeqCst);
    assert_eq!(buy("mine").await.unwrap().answer, Applied::Repeated);
    assert!(matches!(buy("yours").await, Err(Error::Rejected(_))));
    assert!(matches!(board.send(Buy).await, Err(Error::Rejected(_))));
}
