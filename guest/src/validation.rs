//! Reading several parts of a request at once, so that a client learns of everything that is wrong with it.

use crate::Problem;
use crate::problem::Invalid;

/// Takes the values of several readings, or one problem that lists what is invalid in any of them.
///
/// ```
/// # use guest::{Problem, Request, Response};
/// fn reserve(request: &Request) -> Result<Response, Problem> {
///     let (product, quantity): (u32, u32) =
///         guest::all((request.param("product_id"), request.query("quantity")))?;
///     Ok(Response::new(200).with_body(format!("{quantity} of {product}")))
/// }
/// ```
///
/// # Errors
/// A 422 whose `errors` lists every part that is invalid. A problem of another kind comes before those.
pub fn all<R: Readings>(readings: R) -> Result<R::Values, Problem> {
    readings.all()
}

/// A tuple of up to eight readings, such as those of [`Request::param`](crate::Request::param), for [`all`].
pub trait Readings {
    /// The values, in the same order.
    type Values;

    /// See [`all`].
    ///
    /// # Errors
    /// As for [`all`].
    fn all(self) -> Result<Self::Values, Problem>;
}

/// What went wrong so far.
#[derive(Default)]
struct Findings {
    invalid: Vec<Invalid>,
    other: Option<Problem>,
}

impl Findings {
    fn value<T>(&mut self, reading: Result<T, Problem>) -> Option<T> {
        let problem = match reading {
            Ok(value) => return Some(value),
            Err(problem) => problem,
        };
        match problem.into_invalid() {
            Ok(invalid) => self.invalid.extend(invalid),
            Err(other) => self.other = self.other.take().or(Some(other)),
        }
        None
    }

    fn into_problem(self) -> Problem {
        self.other.unwrap_or_else(|| Problem::invalid(self.invalid))
    }
}

macro_rules! tuples {
    ($($name:ident)+) => {
        impl<$($name),+> Readings for ($(Result<$name, Problem>,)+) {
            type Values = ($($name,)+);

            #[allow(non_snake_case, reason = "each reading has the name of its type")]
            fn all(self) -> Result<Self::Values, Problem> {
                let mut findings = Findings::default();
                let ($($name,)+) = self;
                // All are looked at before any is missed.
                $(let $name = findings.value($name);)+
                match ($($name,)+) {
                    ($(Some($name),)+) => Ok(($($name,)+)),
                    _ => Err(findings.into_problem()),
                }
            }
        }
    };
}

tuples!(A);
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);
tuples!(A B C D E);
tuples!(A B C D E F);
tuples!(A B C D E F G);
tuples!(A B C D E F G H);
