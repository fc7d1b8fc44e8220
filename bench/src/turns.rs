//! Rounds in which the contenders take turns, so that other load on the machine affects all of them.
//!
//! In each turn one contender is started, warmed up, measured and stopped, and no other one runs. Two processes of the
//! same program can differ in speed by up to a tenth for their whole life, most likely because of their memory layout.
//! If a process lived through all rounds, the median would not remove this difference.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::arguments::Effort;
use crate::contender::{Contender, Plan, Totals};
use crate::cpu;

/// The time after a start to fill caches and pools.
const WARM_UP: Duration = Duration::from_secs(1);

/// The figures of one contender in one round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    pub(crate) requests: u64,
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// CPU time of the contender's processes, in seconds for each request: in the programs and in the kernel.
    pub(crate) user: f64,
    pub(crate) kernel: f64,
}

/// All turns of one contender.
pub(crate) struct Standing {
    pub(crate) name: &'static str,
    pub(crate) turns: Vec<Turn>,
    /// The totals of all turns.
    totals: Totals,
}

/// Measures the contenders in turns.
pub(crate) fn take(plans: &[Plan], effort: Effort) -> Result<Vec<Standing>> {
    let contenders: Vec<_> = plans.iter().map(|plan| (plan.name, plan)).collect();
    rounds(&contenders, effort.rounds, |plan| {
        let mut contender = plan.start()?;
        warm_up(&mut contender, effort)?;
        let turn = turn(&mut contender, effort)?;
        Ok((turn, contender.stop()?))
    })
}

/// Calls `take_turn` for each contender in each round: a turn, from start to stop.
pub(crate) fn rounds<T: Copy>(
    contenders: &[(&'static str, T)],
    rounds: usize,
    mut take_turn: impl FnMut(T) -> Result<(Turn, Totals)>,
) -> Result<Vec<Standing>> {
    let mut standings: Vec<Standing> = contenders.iter().map(|(name, _)| Standing::new(name)).collect();
    for round in 0..rounds {
        let mut order: Vec<_> = contenders.iter().zip(&mut standings).collect();
        // Otherwise each contender would always follow the same other one.
        if round % 2 == 1 {
            order.reverse();
        }
        for ((name, contender), standing) in order {
            let (turn, totals) = take_turn(*contender).context(*name)?;
            standing.add(turn, totals);
        }
        eprint!(".");
    }
    eprintln!();
    Ok(standings)
}

/// Sends requests to a contender that was just started.
pub(crate) fn warm_up(contender: &mut Contender, effort: Effort) -> Result<()> {
    contender.serve(effort.connections, WARM_UP).map(drop)
}

/// Measures a contender for one turn.
pub(crate) fn turn(contender: &mut Contender, effort: Effort) -> Result<Turn> {
    let processes = contender.processes();
    let before = cpu::of(&processes);
    let served = contender.serve(effort.connections, effort.turn)?;
    let used = cpu::of(&processes) - before;
    let per_request = |time: Duration| time.as_secs_f64() / served.requests().max(1) as f64;
    Ok(Turn {
        requests: served.requests(),
        per_second: served.per_second(),
        p50: served.quantile(0.5),
        p99: served.quantile(0.99),
        user: per_request(used.user),
        kernel: per_request(used.kernel),
    })
}

impl Standing {
    fn new(name: &'static str) -> Standing {
        Standing { name, turns: Vec::new(), totals: Totals::default() }
    }

    fn add(&mut self, turn: Turn, totals: Totals) {
        self.turns.push(turn);
        self.totals.requests += totals.requests;
        self.totals.spans += totals.spans;
    }

    /// The number of spans received for each request, including the warm-ups.
    pub(crate) fn spans_per_request(&self) -> f64 {
        self.totals.spans as f64 / self.totals.requests as f64
    }

    /// The median of one figure over the rounds.
    pub(crate) fn median(&self, figure: impl Fn(&Turn) -> f64) -> f64 {
        median(self.turns.iter().map(figure).collect())
    }

    /// The ratio of a figure to that of another contender, computed for each round: minimum, median and maximum.
    pub(crate) fn ratio(&self, other: &Standing, figure: impl Fn(&Turn) -> f64) -> [f64; 3] {
        let ratios: Vec<f64> =
            self.turns.iter().zip(&other.turns).map(|(mine, its)| figure(mine) / figure(its)).collect();
        let lowest = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        [lowest, median(ratios), highest]
    }
}

pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match (figures.get(middle), figures.len() % 2) {
        (Some(upper), 0) => (upper + figures[middle - 1]) / 2.0,
        (Some(upper), _) => *upper,
        (None, _) => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_value_or_the_mean_of_the_two_middle_values() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn ratios_are_computed_for_each_round() {
        let standing = |rates: [f64; 3]| Standing { turns: rates.map(turn).to_vec(), ..Standing::new("") };
        let ratio = standing([2.0, 20.0, 9.0]).ratio(&standing([1.0, 10.0, 3.0]), |turn| turn.per_second);
        assert_eq!(ratio, [2.0, 2.0, 3.0]);
    }

    #[test]
    fn every_second_round_has_the_reverse_order() {
        let mut order = String::new();
        let standings = rounds(&[("first", 'a'), ("second", 'b'), ("third", 'c')], 3, |contender| {
            order.push(contender);
            Ok((turn(f64::from(u32::from(contender))), Totals::default()))
        });
        assert_eq!(order, "abccbaabc");
        for (standing, (name, rate)) in
            standings.unwrap().iter().zip([("first", 97.0), ("second", 98.0), ("third", 99.0)])
        {
            assert_eq!(standing.name, name);
            assert_eq!(standing.turns.iter().map(|turn| turn.per_second).collect::<Vec<_>>(), [rate; 3]);
        }
    }

    #[test]
    fn spans_per_request_include_all_rounds() {
        let mut turns_done = [Totals { requests: 1, spans: 2 }, Totals { requests: 3, spans: 10 }].into_iter();
        let standings = rounds(&[("one", ())], 2, |()| Ok((turn(1.0), turns_done.next().unwrap()))).unwrap();
        assert_eq!(standings[0].spans_per_request(), 3.0);
    }

    #[test]
    fn an_error_names_the_contender() {
        let failed = rounds(&[("one", ())], 1, |()| anyhow::bail!("no answer"));
        assert_eq!(format!("{:#}", failed.err().unwrap()), "one: no answer");
    }

    fn turn(per_second: f64) -> Turn {
        Turn { requests: 1, per_second, p50: Duration::ZERO, p99: Duration::ZERO, user: 0.0, kernel: 0.0 }
    }
}
