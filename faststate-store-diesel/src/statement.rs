//! SQL statements with a fixed text.

use std::marker::PhantomData;

use diesel::{
    QueryResult,
    backend::Backend,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    serialize::ToSql,
    sql_types::{BigInt, Binary, HasSqlType, Nullable},
};

/// A statement that binds a value to each `?` in its text and returns rows of `T`.
///
/// Diesel prepares it once per connection, because it is identified by its text. A
/// [`sql_query`](diesel::sql_query) would be prepared on each call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Statement<'a, T = ()> {
    text: &'static str,
    binds: &'a [Bind<'a>],
    columns: PhantomData<T>,
}

/// A value in a [`Statement`]. All columns are numbers or bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bind<'a> {
    Bytes(&'a [u8]),
    MaybeBytes(Option<&'a [u8]>),
    Number(i64),
    MaybeNumber(Option<i64>),
}

impl<'a> Statement<'a> {
    /// A statement that returns no rows.
    pub(crate) const fn new(text: &'static str, binds: &'a [Bind<'a>]) -> Self {
        Self::returning(text, binds)
    }
}

impl<'a, T> Statement<'a, T> {
    pub(crate) const fn returning(text: &'static str, binds: &'a [Bind<'a>]) -> Self {
        Self { text, binds, columns: PhantomData }
    }
}

#[cfg(feature = "postgres")]
impl<'a, T> Statement<'a, T> {
    /// The text with `$1`, `$2`, .. instead of each `?`, and the binds.
    pub(crate) fn numbered(&self) -> (String, &'a [Bind<'a>]) {
        let mut pieces = self.text.split('?');
        let mut text = pieces.next().unwrap_or_default().to_owned();
        for (index, piece) in pieces.enumerate() {
            text.push_str(&format!("${}{piece}", index + 1));
        }
        (text, self.binds)
    }
}

/// The only row of a statement whose result was read to the end.
///
/// `get_result` would return the row as soon as it arrives. PostgreSQL may send a row before the commit, so the row of a
/// server that crashes in between would claim a save that was lost.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(crate) fn only<T>(mut rows: Vec<T>) -> QueryResult<T> {
    rows.pop().ok_or(diesel::result::Error::NotFound)
}

impl<T, DB> QueryFragment<DB> for Statement<'_, T>
where
    DB: Backend + HasSqlType<BigInt> + HasSqlType<Binary>,
    i64: ToSql<BigInt, DB>,
    [u8]: ToSql<Binary, DB>,
    Option<i64>: ToSql<Nullable<BigInt>, DB>,
    for<'b> Option<&'b [u8]>: ToSql<Nullable<Binary>, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        let mut pieces = self.text.split('?');
        out.push_sql(pieces.next().unwrap_or_default());
        for (bind, piece) in self.binds.iter().zip(pieces) {
            match bind {
                Bind::Bytes(bytes) => out.push_bind_param::<Binary, [u8]>(bytes)?,
                Bind::MaybeBytes(bytes) => out.push_bind_param::<Nullable<Binary>, _>(bytes)?,
                Bind::Number(number) => out.push_bind_param::<BigInt, _>(number)?,
                Bind::MaybeNumber(number) => out.push_bind_param::<Nullable<BigInt>, _>(number)?,
            }
            out.push_sql(piece);
        }
        Ok(())
    }
}

impl<T> QueryId for Statement<'_, T> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<T> Query for Statement<'_, T> {
    type SqlType = T;
}

#[cfg(feature = "sqlite")]
impl<T> diesel::RunQueryDsl<diesel::SqliteConnection> for Statement<'_, T> {}
