//! What each thread of each shard has of a load.
//!
//! What is shared out goes to all threads of all shards in turn, the first ones of all shards
//! before the second ones: thread t in shard s of N is part t * N + s. So shards of as many
//! threads each do together exactly what one process with all of these would do: its connections,
//! each with the same messages, due at the same distances; and no shard has two more of anything
//! than another.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

use super::{Load, Traffic, Turnover, Volume};
use crate::failure::Failure;
use crate::load::options::values::Rate;

/// What stands for the shard's index in the names of files.
const PLACE: &str = "{shard}";

impl Load {
    /// How many threads all shards have together.
    pub(crate) fn parts(&self) -> u32 {
        let of = self.shard.map_or(1, |shard| shard.of.get());
        // At most 2^16 shards of at most 2^10 threads.
        of.saturating_mul(self.sockets.threads.get())
    }

    /// Which of these a thread of this process is.
    pub(crate) fn part(&self, thread: u32) -> u32 {
        let shard = self.shard.map_or((0, 1), |it| (it.index, it.of.get()));
        thread.saturating_mul(shard.1).saturating_add(shard.0)
    }

    /// Which of this process's things the one is that is the `number`-th of all shards'.
    pub(crate) fn own_turn(&self, number: u32) -> u32 {
        let (round, part) = (number / self.parts(), number % self.parts());
        let thread = part / self.shard.map_or(1, |shard| shard.of.get());
        round
            .saturating_mul(self.sockets.threads.get())
            .saturating_add(thread)
    }

    /// The part of a count that thread `part` of all shards has: the parts add up exactly.
    pub(crate) fn share(&self, all: u64, part: u32) -> u64 {
        let parts = u64::from(self.parts());
        all / parts + u64::from(u64::from(part) < all % parts)
    }

    /// The part of a count that this process has.
    pub(crate) fn own_share(&self, all: u64) -> u64 {
        let threads = 0..self.sockets.threads.get();
        threads.map(|it| self.share(all, self.part(it))).sum()
    }

    /// What this process does of it, as a load of its own: what it's held against, and tells. Its
    /// generators do their parts of the whole.
    ///
    /// # Errors
    /// Exit code 2: there is less than one connection for it.
    pub(crate) fn own(&self) -> Result<Load, Failure> {
        let Some(shard) = self.shard else {
            return Ok(self.clone());
        };
        let count = |all: NonZeroU32| {
            let own = self.own_share(all.get().into());
            NonZeroU32::new(u32::try_from(own).unwrap_or(u32::MAX))
        };
        let Some(connections) = count(self.connections) else {
            let all = self.connections;
            let words = format!(
                "shard {} of {}, which {} says, has none of the {all} connections",
                shard.index, shard.of, shard.by
            );
            let tip = "ask for as many connections as there are shards, or take --shard none";
            return Err(Failure::usage(words).hint(tip));
        };
        let least = NonZeroU32::MIN;
        let part = f64::from(shard.of.get());
        let mut own = Load {
            connections,
            connect_rate: count(self.connect_rate).unwrap_or(least),
            stages: self.stages.as_ref().map(|it| it.divided(shard.of.get())),
            connection_stages: (self.connection_stages.as_ref())
                .map(|it| it.each(|all| self.own_share(all))),
            ..self.clone()
        };
        if let Traffic::Open(rate, how) = self.traffic {
            own.traffic = Traffic::Open(Rate::at_least(rate.a_second() / part), how);
        }
        if let Turnover::Churn(rate) = self.turnover {
            own.turnover = Turnover::Churn(count(rate).unwrap_or(least));
        }
        if let Volume::Messages(all) = self.volume {
            let all = self.own_share(all.get()).max(1);
            own.volume = Volume::Messages(all.try_into().unwrap_or(NonZeroU64::MIN));
        }
        Ok(own)
    }

    /// Puts the shard's index into the names of files that have a place for it.
    pub(super) fn name_files(&mut self) {
        let index = self.shard.map_or(0, |shard| shard.index).to_string();
        let output = &mut self.output;
        for file in [&mut output.json, &mut output.hdr, &mut output.csv] {
            if let Some(name) = file.as_ref().and_then(|file| file.to_str())
                && name.contains(PLACE)
            {
                *file = Some(PathBuf::from(name.replace(PLACE, &index)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_files_have_a_place_for_the_shard() {
        let load =
            Load::of("--shard 2/4 --json a-{shard}.json --hdr b.hlog --csv {shard}/{shard}.csv");
        assert_eq!(load.output.json, Some("a-2.json".into()));
        assert_eq!(load.output.hdr, Some("b.hlog".into()));
        assert_eq!(load.output.csv, Some("2/2.csv".into()));
    }

    proptest! {
        #[test]
        fn the_parts_of_all_shards_are_the_whole(
            of in 1..9_u32, threads in 1..5_u32, all in 0..1000_u64
        ) {
            let (mut sum, mut parts) = (0, Vec::new());
            let mut shares = Vec::new();
            for index in 0..of {
                let load = Load::of(&format!("--shard {index}/{of} -t {threads} -c 100"));
                prop_assert_eq!(load.parts(), of * threads);
                for thread in 0..threads {
                    parts.push(load.part(thread));
                    sum += load.share(all, load.part(thread));
                    prop_assert_eq!(load.own_turn(load.part(thread)), thread);
                }
                shares.push(load.own_share(all));
            }
            parts.sort_unstable();
            prop_assert_eq!(parts, (0..of * threads).collect::<Vec<_>>());
            prop_assert_eq!((sum, shares.iter().sum::<u64>()), (all, all));
            let (least, most) = (shares.iter().min(), shares.iter().max());
            prop_assert!(*most.unwrap() <= least.unwrap() + 1, "{shares:?}");
        }
    }
}
