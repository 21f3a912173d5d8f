//! MySQL, as MariaDB.

use std::time::Duration;

use diesel_async::{AsyncConnection as _, AsyncMysqlConnection, SimpleAsyncConnection as _};
use faststate_core::conformance;
use faststate_tests::MariaDb;

use crate::open::open;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn mysql_keeps_its_promises() {
    let server = MariaDb::start();
    let url = server.url();
    let (a, b) = tokio::join!(open(&url), open(&url));
    conformance::store::all(&a, &b).await.unwrap();
    let pass = async |time: Duration| {
        let sooner = format!("UPDATE faststate_receipts SET expires_at = expires_at - {}", time.as_millis());
        AsyncMysqlConnection::establish(&url).await.unwrap().batch_execute(&sooner).await.unwrap();
    };
    conformance::store::receipts_are_kept_ten_minutes(&a, pass).await.unwrap();
    let shown = format!("{a:?}");
    assert!(shown.contains("127.0.0.1") && !shown.contains("secret"), "{shown}");
}
