//! Rounds in which contenders take turns, so that whatever else the machine does meets all of them.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::arguments::Effort;
use crate::contender::Contender;
use crate::{cpu, load};

/// The time before the first round in which caches fill and pools grow.
const WARM_UP: Duration = Duration::from_secs(1);

/// One contender's turn in one round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// CPU time of the contender's processes for each request.
    pub(crate) cpu: Duration,
}

/// All turns of one contender.
pub(crate) struct Standing {
    pub(crate) name: String,
    pub(crate) turns: Vec<Turn>,
    /// Spans that the collector got for each request.
    pub(crate) spans: f64,
}

/// Lets the contenders take turns and then stops them.
pub(crate) fn take(contenders: Vec<Contender>, effort: Effort) -> Result<Vec<Standing>> {
    let mut standings: Vec<(Standing, u64)> = contenders
        .iter()
        .map(|contender| (Standing { name: contender.name.clone(), turns: Vec::new(), spans: 0.0 }, 1))
        .collect();
    for round in 0..=effort.rounds {
        for (contender, (standing, requests)) in contenders.iter().zip(&mut standings) {
            let time = if round == 0 { WARM_UP } else { effort.turn };
            let (turn, served) = turn(contender, effort.connections, time)?;
            *requests += served;
            if round > 0 {
                standing.turns.push(turn);
            }
        }
        eprint!(".");
    }
    eprintln!();
    for (contender, (standing, requests)) in contenders.into_iter().zip(&mut standings) {
        standing.spans = contender.stop()? as f64 / *requests as f64;
    }
    Ok(standings.into_iter().map(|(standing, _)| standing).collect())
}

/// One turn of one contender, and the requests that it served.
pub(crate) fn turn(contender: &Contender, connections: usize, time: Duration) -> Result<(Turn, u64)> {
    let processes = contender.processes();
    let before = cpu::of(&processes);
    let served = load::run(&contender.target, connections, time).with_context(|| contender.name.clone())?;
    let used = cpu::of(&processes).saturating_sub(before);
    let turn = Turn {
        per_second: served.per_second(),
        p50: served.quantile(0.5),
        p99: served.quantile(0.99),
        cpu: used.div_f64(served.requests().max(1) as f64),
    };
    Ok((turn, served.requests()))
}

impl Standing {
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
        let turn = |per_second| Turn { per_second, p50: Duration::ZERO, p99: Duration::ZERO, cpu: Duration::ZERO };
        let standing = |rates: [f64; 3]| Standing { name: String::new(), turns: rates.map(turn).to_vec(), spans: 0.0 };
        let ratio = standing([2.0, 20.0, 9.0]).ratio(&standing([1.0, 10.0, 3.0]), |turn| turn.per_second);
        assert_eq!(ratio, [2.0, 2.0, 3.0]);
    }
}
