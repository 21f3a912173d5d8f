//! The lots of the [`auction`](crate::auction), as far as they never change.

/// The name of the state of lots.
pub(crate) const STATE: &str = "lot";

/// One lot, without its bids.
#[derive(Debug)]
pub(crate) struct LotEntry {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) description: &'static str,
    /// The hours for which a new lot is open.
    pub(crate) hours: u64,
}

/// All lots.
pub(crate) const LOTS: &[LotEntry] = &[
    LotEntry {
        id: "l1",
        title: "Brass telescope",
        description: "Shows the moon, and the neighbour's cat.",
        hours: 1,
    },
    LotEntry { id: "l2", title: "Ship in a bottle", description: "The bottle was blown last.", hours: 2 },
    LotEntry { id: "l3", title: "Rain gauge", description: "Has measured every storm since 1931.", hours: 3 },
    LotEntry {
        id: "l4",
        title: "Chess set",
        description: "Complete, except for a pawn, which is a thimble.",
        hours: 6,
    },
    LotEntry {
        id: "l5",
        title: "Street organ",
        description: "Plays two tunes, one of them well.",
        hours: 12,
    },
];

/// Returns the lot with this id.
pub(crate) fn find(id: &str) -> Option<&'static LotEntry> {
    LOTS.iter().find(|lot| lot.id == id)
}
