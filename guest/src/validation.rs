//! Collects the errors of several parameters, so that a client gets all of them in one response.

use crate::Problem;
use crate::problem::Invalid;

/// Returns the values of several parameters, or one problem that lists all invalid ones.
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
/// 422 whose `errors` lists every invalid part. A problem with another status code takes precedence.
pub fn all<R: ResultTuple>(results: R) -> Result<R::Values, Problem> {
    results.all()
}

/// A tuple of up to eight results, such as those of [`Request::param`](crate::Request::param), for [`all`].
pub trait ResultTuple {
    /// The tuple of values, in the same order.
    type Values;

    /// See [`all`].
    ///
    /// # Errors
    /// As for [`all`].
    fn all(self) -> Result<Self::Values, Problem>;
}

/// The errors so far.
#[derive(Default)]
struct Collected {
    invalid: Vec<Invalid>,
    other: Option<Problem>,
}

impl Collected {
    fn take<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        let problem = match result {
            Ok(take) => return Some(take),
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
        impl<$($name),+> ResultTuple for ($(Result<$name, Problem>,)+) {
            type Values = ($($name,)+);

            #[allow(non_snake_case, reason = "each result has the name of its type")]
            fn all(self) -> Result<Self::Values, Problem> {
                let mut collected = Collected::default();
                let ($($name,)+) = self;
                // All results are examined before any error is returned.
                $(let $name = collected.take($name);)+
                match ($($name,)+) {
                    ($(Some($name),)+) => Ok(($($name,)+)),
                    _ => Err(collected.into_problem()),
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
