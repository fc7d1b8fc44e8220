//! The login form for the admin token.

use maud::{Markup, html};

use super::layout::{ActivePage, Updates, page};

/// The form. `refused` means that the previous token was wrong; `next` is the path to redirect to after the login.
pub(in crate::console) fn login(refused: bool, next: &str) -> Markup {
    page(
        "Sign in",
        ActivePage::Other,
        Updates::Fixed,
        &html! {
            form.login method="post" action="/login" {
                h1 { "Sign in" }
                p { "This console requires the admin token: the value of " code { "SPANDREL_ADMIN_TOKEN" } "." }
                @if refused {
                    p.error role="alert" #refused { "This token is wrong." }
                }
                input type="hidden" name="next" value=(next);
                label for="token" { "Admin token" }
                input #token name="token" type="password" autocomplete="current-password" required autofocus
                    aria-describedby=[refused.then_some("refused")];
                button.primary { "Sign in" }
            }
        },
    )
}
