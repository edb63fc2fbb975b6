//! One macro for the closed word lists of the domain (states, kinds, roles).
//!
//! Why: each such enum needs the same four faces (text, parse, serde, SQL text) and they must not drift apart.
//! Invariant: `as_str` and `parse` are inverse; the text is what is stored in SQL and in JSON.

/// Declares a closed list of words as an enum with `ALL`, `as_str`, `FromStr`, `Display`, serde and (feature
/// `sqlx`) TEXT column mapping.
#[macro_export]
macro_rules! words {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ::serde::Serialize, ::serde::Deserialize)]
        #[cfg_attr(feature = "sqlx", derive(::sqlx::Type), sqlx(type_name = "text"))]
        $vis enum $name {
            $($(#[$vmeta])* #[serde(rename = $text)] #[cfg_attr(feature = "sqlx", sqlx(rename = $text))] $variant,)+
        }

        impl $name {
            /// Every value, in declaration order.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The stable text of this value.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::Error;
            fn from_str(text: &str) -> ::std::result::Result<Self, Self::Err> {
                match text {
                    $($text => Ok($name::$variant),)+
                    other => Err($crate::Error::unknown_word(stringify!($name), other, &[$($text),+])),
                }
            }
        }
    };
}
