//! Counts how often seeds take the important paths. A path that no seed takes is not tested.

/// The paths that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    QuerySucceeded,
    OutputMadeAgain,
    FinishedReaderRestarted,
    Relaunched,
    ZombieAborted,
    ForgottenQueryReleased,
    MoreWaves,
    ResultMoved,
    ResultResumed,
    ResultPartlyDelivered,
    ExchangeLost,
    RetriedAfterDefect,
    ExecutorLost,
    ExecutorReattached,
    LostExecutorRefused,
    DrainedExecutorLeft,
    QueryBlamed,
    QueryStarved,
    QueryRefused,
    QueryCanceled,
    QueryFailedByUser,
    ClockJumped,
    StageShrunk,
    EmptyStageSkipped,
    UnreadStageStopped,
    JoinSwitched,
    PartitionsSplit,
    PlannedAnew,
    PlannedForMemory,
    LayoutMadeAgain,
    ReaderStalled,
}

impl Sight {
    /// All paths.
    pub const ALL: [Self; 31] = [
        Self::QuerySucceeded,
        Self::OutputMadeAgain,
        Self::FinishedReaderRestarted,
        Self::Relaunched,
        Self::ZombieAborted,
        Self::ForgottenQueryReleased,
        Self::MoreWaves,
        Self::ResultMoved,
        Self::ResultResumed,
        Self::ResultPartlyDelivered,
        Self::ExchangeLost,
        Self::RetriedAfterDefect,
        Self::ExecutorLost,
        Self::ExecutorReattached,
        Self::LostExecutorRefused,
        Self::DrainedExecutorLeft,
        Self::QueryBlamed,
        Self::QueryStarved,
        Self::QueryRefused,
        Self::QueryCanceled,
        Self::QueryFailedByUser,
        Self::ClockJumped,
        Self::StageShrunk,
        Self::EmptyStageSkipped,
        Self::UnreadStageStopped,
        Self::JoinSwitched,
        Self::PartitionsSplit,
        Self::PlannedAnew,
        Self::PlannedForMemory,
        Self::LayoutMadeAgain,
        Self::ReaderStalled,
    ];
}

/// How often each path was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sights {
    counts: [u64; Sight::ALL.len()],
}

impl Sights {
    pub(crate) fn see(&mut self, sight: Sight) {
        self.counts[sight as usize] += 1;
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
    }

    /// Each path with how often it was taken.
    pub fn iter(&self) -> impl Iterator<Item = (Sight, u64)> {
        Sight::ALL.into_iter().map(|sight| (sight, self.counts[sight as usize]))
    }
}
