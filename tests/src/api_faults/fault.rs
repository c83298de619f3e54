//! What goes wrong between the API server and Tandem.

/// What the number of a case counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The bytes of the phase before the fault.
    Byte,
    /// The frames of the phase before the fault: the events of a watch.
    Frame,
    /// Nothing. The fault takes the place of an answer.
    Answer,
    /// Nothing. The fault is one of the connection, or of a file.
    Connection,
}

macro_rules! faults {
    ($($(#[doc = $doc:literal])* $variant:ident $name:literal $place:ident,)*) => {
        /// What goes wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $($(#[doc = $doc])* $variant,)* }

        impl Fault {
            /// All faults.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word for it in the name of a case.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Where it is.
            pub fn place(self) -> Place {
                match self { $(Self::$variant => Place::$place,)* }
            }
        }
    };
}

faults! {
    /// Nothing: the proxy passes everything on.
    Nothing "nothing" Connection,

    /// The HTTP/2 stream is reset. With HTTP/1.1, the connection ends in the middle of the body.
    Reset "reset" Byte,
    /// The connection ends, without a word of TLS.
    Break "break" Byte,
    /// The body ends as if it were complete.
    End "end" Byte,
    /// The server says that it goes away (GOAWAY), and ends the body.
    GoAway "goaway" Byte,
    /// Nothing is sent for a while, then the rest.
    PauseRest "pause-rest" Byte,
    /// Nothing is sent for a while, then the stream is reset.
    PauseReset "pause-reset" Byte,
    /// Nothing is sent for a while, then the body ends as if it were complete.
    PauseEnd "pause-end" Byte,
    /// Nothing more is sent. The connection lives and answers pings.
    Silence "silence" Byte,

    /// Two frames that follow each other are exchanged.
    Swap "swap" Frame,
    /// A frame is sent twice.
    Twice "twice" Frame,
    /// The bookmark that ends a list is sent twice.
    EndTwice "end-twice" Frame,
    /// A length that is one too high. In JSON, an end of line is missing.
    Longer "longer" Frame,
    /// A length that is one too low. In JSON, there is an end of line inside an event.
    Shorter "shorter" Frame,
    /// A length of 2 GiB.
    Huge "huge" Frame,
    /// A frame without a byte.
    Zero "zero" Frame,
    /// A page of HTML instead of the rest.
    Html "html" Frame,
    /// JSON instead of protobuf, or protobuf instead of JSON.
    OtherEncoding "other-encoding" Frame,
    /// An ERROR event with code 401.
    Error401 "error-401" Frame,
    /// An ERROR event with code 410.
    Error410 "error-410" Frame,
    /// An ERROR event with code 429.
    Error429 "error-429" Frame,
    /// An ERROR event with code 500.
    Error500 "error-500" Frame,
    /// An ERROR event with code 503.
    Error503 "error-503" Frame,

    /// The answer is 401.
    Answer401 "answer-401" Answer,
    /// The answer is 403.
    Answer403 "answer-403" Answer,
    /// The answer is 410.
    Answer410 "answer-410" Answer,
    /// The answer is 429 and asks for a second.
    Answer429 "answer-429" Answer,
    /// The answer is 500.
    Answer500 "answer-500" Answer,
    /// The answer is 503.
    Answer503 "answer-503" Answer,
    /// The answer is 504.
    Answer504 "answer-504" Answer,
    /// The answer is 200 and has no body.
    Empty "empty" Answer,
    /// The answer is 200 and a page of HTML that calls itself so.
    HtmlPage "html-page" Answer,
    /// The answer is 200 and a page of HTML that calls itself protobuf.
    HtmlAsProtobuf "html-as-protobuf" Answer,
    /// The answer is 200 and an empty list in JSON that calls itself protobuf.
    JsonAsProtobuf "json-as-protobuf" Answer,
    /// The answer is the one to a request for another kind.
    OtherKind "other-kind" Answer,
    /// The answer begins late.
    Late "late" Answer,
    /// The stream is reset before the answer begins.
    NoAnswer "no-answer" Answer,

    /// All connections end. The server does not speak HTTP/2 any more.
    OnlyHttp1 "only-http1" Connection,
    /// All connections end. For a while, the server agrees on HTTP/2 and then speaks HTTP/1.1.
    NoHttp2 "no-http2" Connection,
    /// All connections end. The server has a certificate of a new authority, and the file of the authority is replaced
    /// a little later.
    NewCertificate "new-certificate" Connection,
    /// All connections end while the file of the authority is empty for a moment.
    EmptyAuthority "empty-authority" Connection,
    /// All connections end while the file of the token is empty for a moment.
    EmptyToken "empty-token" Connection,

    /// A lie: one frame is left out. No client can notice it. So it is in no plan, only in the test of the judge.
    Lie "lie" Frame,
}
