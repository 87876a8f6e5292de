//! Making a run that fails small.

use crate::net::sim::Fault;

use super::World;
use super::plan::{Cap, Plan};
use super::run::Run;

/// Runs that may be spent on it.
const RUNS: usize = 200;

/// A smaller plan that fails too, as far as that is cheap: without the faults that it doesn't need,
/// and with the smallest numbers.
pub(super) fn shrink(mut plan: Plan, test: &impl Fn(&mut World)) -> Plan {
    let mut shrink = Shrink { test, left: RUNS };
    loop {
        let before = plan.clone();
        plan = shrink.leave_out_faults(plan);
        plan = shrink.lower(&plan, Cap::Count);
        plan = shrink.lower(&plan, Cap::Size);
        if plan == before || shrink.left == 0 {
            return shrink.without_an_idle_list(plan);
        }
    }
}

struct Shrink<'a, F> {
    test: &'a F,
    /// Runs that are left.
    left: usize,
}

impl<F: Fn(&mut World)> Shrink<'_, F> {
    fn fails(&mut self, plan: &Plan) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        Run::silent(plan, self.test).failure.is_some()
    }

    /// The world that a run under `plan` leaves.
    fn world(&mut self, plan: &Plan) -> World {
        self.left = self.left.saturating_sub(1);
        Run::silent(plan, self.test).world
    }

    /// Leaves out whatever faults aren't needed: all, or those that aren't met, or one by one.
    fn leave_out_faults(&mut self, mut plan: Plan) -> Plan {
        loop {
            let met = self.world(&plan).faults_met();
            let smaller = fewer(&met).into_iter().map(|faults| Plan {
                faults: Some(faults),
                ..plan.clone()
            });
            // A fault that the test makes is met again however short the list is.
            let is_less = |faults: &[Fault]| {
                let now = plan.faults.as_ref().map(Vec::len);
                now.is_none_or(|now| faults.len() < now)
            };
            let mut smaller =
                smaller.filter(|smaller| smaller.faults.as_deref().is_some_and(is_less));
            match smaller.find(|smaller| self.fails(smaller)) {
                Some(smaller) => plan = smaller,
                None => return plan,
            }
        }
    }

    /// Lowers what is drawn to the least with which it fails: by doubling up to one that does, and
    /// by halving between that and the last one which doesn't.
    fn lower(&mut self, plan: &Plan, cap: Cap) -> Plan {
        let (drawn, now) = (self.world(plan).drawn(cap), plan.cap(cap));
        // More than this changes no draw.
        let top = drawn.min(now);
        let (mut passes, mut fails) = (None, top);
        let mut tried = cap.least();
        while tried < fails {
            if self.fails(&plan.with_cap(cap, tried)) {
                fails = tried;
            } else {
                passes = Some(tried);
                tried = tried.saturating_mul(2).max(1);
            }
        }
        let mut passes = passes.unwrap_or(fails);
        while fails.saturating_sub(passes) > 1 {
            let tried = passes + (fails - passes) / 2;
            match self.fails(&plan.with_cap(cap, tried)) {
                true => fails = tried,
                false => passes = tried,
            }
        }
        let idle = fails == drawn;
        plan.with_cap(cap, if idle { u64::MAX } else { fails })
    }

    /// To say that no fault may happen is worth a word only where one would.
    fn without_an_idle_list(&mut self, plan: Plan) -> Plan {
        let any = Plan {
            faults: None,
            ..plan.clone()
        };
        let none = plan.faults.as_ref().is_some_and(Vec::is_empty);
        match none && self.world(&any).faults_met().is_empty() {
            true => any,
            false => plan,
        }
    }
}

/// Fewer faults to try than those that a run has met, the fewest first.
fn fewer(met: &[Fault]) -> Vec<Vec<Fault>> {
    let mut all = vec![Vec::new(), met.to_vec()];
    if met.len() > 1 {
        let others = |left_out| met.iter().copied().filter(move |met| met != left_out);
        all.extend(met.iter().map(|left_out| others(left_out).collect()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The plan that the first failing run of `test` is cut down to, without its seed.
    fn shrunk(test: impl Fn(&mut World)) -> String {
        let mut plans = (0..1000).map(Plan::new);
        let plan = plans.find(|plan| Run::silent(plan, &test).failure.is_some());
        let small = shrink(plan.unwrap(), &test).to_string();
        small
            .split_once(' ')
            .map_or("", |(_, rest)| rest)
            .to_owned()
    }

    #[test]
    fn a_failure_from_some_number_on_ends_with_that_number() {
        assert_eq!(shrunk(|world| assert!(world.count(100) < 37)), "count=37");
        let small = shrunk(|world| {
            world.unleash();
            let (_, size) = (world.count(1000), world.size(1_000_000));
            assert!(size < 12_345);
        });
        assert_eq!(small.replace("faults=none ", ""), "count=1 size=12345");
    }

    #[test]
    fn a_fault_that_the_test_makes_itself_is_left_out_as_one_that_is_drawn() {
        let small = shrunk(|world| {
            world.fault_rate(Fault::DatagramLost, 1_000_000);
            world.fault(Fault::DatagramDoubled, 1);
            world.loss(2);
            let (one, other) = (([10, 0, 0, 1], 9).into(), ([10, 0, 0, 2], 9).into());
            world.udp(one).send_to(other, b"lost");
            assert!(world.count(100) < 37);
        });
        assert_eq!(small, "faults=none count=37");
    }

    #[test]
    fn a_cap_that_changes_no_draw_is_not_told() {
        assert_eq!(shrunk(|world| assert!(world.count(20) < 20)), "");
        let always = shrunk(|world| {
            let drawn = (world.count(1000), world.size(1000));
            assert!(drawn.0 == 0, "it always fails");
        });
        assert_eq!(always, "count=1 size=0");
        assert_eq!(shrunk(|_| panic!("whatever is drawn")), "");
    }
}
