//! Rounds in which contenders take turns, so that whatever else the machine does meets all of them.
//!
//! Each turn is a life of its own: the contender is started, warmed up, measured and stopped, and nobody else runs
//! meanwhile. Two processes of one program differ in speed by up to a tenth for as long as they live, most likely by how
//! their memory happens to lie. Whoever lived through all rounds would keep its luck, and no median would show it.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::arguments::Effort;
use crate::contender::{Contender, Done, Plan};
use crate::cpu;

/// The time after a start in which caches fill and pools grow.
const WARM_UP: Duration = Duration::from_secs(1);

/// What was measured of one contender in one round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    pub(crate) requests: u64,
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// CPU time of the contender's processes for each request.
    pub(crate) cpu: Duration,
}

/// All turns of one contender.
pub(crate) struct Standing {
    pub(crate) name: &'static str,
    pub(crate) turns: Vec<Turn>,
    /// What it did in all its lives together.
    done: Done,
}

/// Lets the contenders take turns.
pub(crate) fn take(plans: &[Plan], effort: Effort) -> Result<Vec<Standing>> {
    let contenders: Vec<_> = plans.iter().map(|plan| (plan.name, plan)).collect();
    rounds(&contenders, effort.rounds, |plan| {
        let mut contender = plan.start()?;
        warm_up(&mut contender, effort)?;
        let turn = turn(&mut contender, effort)?;
        Ok((turn, contender.stop()?))
    })
}

/// Calls `live` for each of the contenders in each round: that is a turn, from its start to its end.
pub(crate) fn rounds<T: Copy>(
    contenders: &[(&'static str, T)],
    rounds: usize,
    mut live: impl FnMut(T) -> Result<(Turn, Done)>,
) -> Result<Vec<Standing>> {
    let mut standings: Vec<Standing> = contenders.iter().map(|(name, _)| Standing::new(name)).collect();
    for round in 0..rounds {
        let mut order: Vec<_> = contenders.iter().zip(&mut standings).collect();
        // Otherwise each would always come after the same other one.
        if round % 2 == 1 {
            order.reverse();
        }
        for ((name, contender), standing) in order {
            let (turn, done) = live(*contender).context(*name)?;
            standing.add(turn, done);
        }
        eprint!(".");
    }
    eprintln!();
    Ok(standings)
}

/// Prepares a contender that was just started.
pub(crate) fn warm_up(contender: &mut Contender, effort: Effort) -> Result<()> {
    contender.serve(effort.connections, WARM_UP).map(drop)
}

/// Measures a contender for as long as a turn takes.
pub(crate) fn turn(contender: &mut Contender, effort: Effort) -> Result<Turn> {
    let processes = contender.processes();
    let before = cpu::of(&processes);
    let served = contender.serve(effort.connections, effort.turn)?;
    let used = cpu::of(&processes).saturating_sub(before);
    Ok(Turn {
        requests: served.requests(),
        per_second: served.per_second(),
        p50: served.quantile(0.5),
        p99: served.quantile(0.99),
        cpu: used.div_f64(served.requests().max(1) as f64),
    })
}

impl Standing {
    fn new(name: &'static str) -> Standing {
        Standing { name, turns: Vec::new(), done: Done::default() }
    }

    fn add(&mut self, turn: Turn, done: Done) {
        self.turns.push(turn);
        self.done.requests += done.requests;
        self.done.spans += done.spans;
    }

    /// Spans that the collectors got for each request, the warm-ups included.
    pub(crate) fn spans_per_request(&self) -> f64 {
        self.done.spans as f64 / self.done.requests as f64
    }

    /// The median of one figure over the rounds.
    pub(crate) fn median(&self, figure: impl Fn(&Turn) -> f64) -> f64 {
        median(self.turns.iter().map(figure).collect())
    }

    /// How this contender's figure stands to another's, round by round: the lowest, the median and the highest ratio.
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
    fn the_median_is_the_middle_one_or_between_the_two_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let standing = |rates: [f64; 3]| Standing { turns: rates.map(turn).to_vec(), ..Standing::new("") };
        let ratio = standing([2.0, 20.0, 9.0]).ratio(&standing([1.0, 10.0, 3.0]), |turn| turn.per_second);
        assert_eq!(ratio, [2.0, 2.0, 3.0]);
    }

    #[test]
    fn every_second_round_has_the_reverse_order() {
        let mut order = String::new();
        let standings = rounds(&[("first", 'a'), ("second", 'b'), ("third", 'c')], 3, |contender| {
            order.push(contender);
            Ok((turn(f64::from(u32::from(contender))), Done::default()))
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
    fn spans_of_a_request_are_those_of_all_rounds() {
        let mut lives = [Done { requests: 1, spans: 2 }, Done { requests: 3, spans: 10 }].into_iter();
        let standings = rounds(&[("one", ())], 2, |()| Ok((turn(1.0), lives.next().unwrap()))).unwrap();
        assert_eq!(standings[0].spans_per_request(), 3.0);
    }

    #[test]
    fn an_error_says_whose_turn_it_was() {
        let failed = rounds(&[("one", ())], 1, |()| anyhow::bail!("no answer"));
        assert_eq!(format!("{:#}", failed.err().unwrap()), "one: no answer");
    }

    fn turn(per_second: f64) -> Turn {
        Turn { requests: 1, per_second, p50: Duration::ZERO, p99: Duration::ZERO, cpu: Duration::ZERO }
    }
}
