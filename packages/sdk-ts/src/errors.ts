/**
 * The errors of this SDK, as one tree.
 *
 * ```text
 * TrajectoryError
 * ├── APIConnectionError            the server was not reached, or the connection broke
 * │   └── APITimeoutError           it did not answer in time
 * ├── APIStatusError                it answered with an error
 * │   ├── BadRequestError           400
 * │   ├── AuthenticationError       401
 * │   ├── PermissionDeniedError     403
 * │   ├── NotFoundError             404
 * │   ├── RequestTimeoutError       408
 * │   ├── ConflictError             409  the id was deleted, and does not come back
 * │   ├── PayloadTooLargeError      413
 * │   ├── UnsupportedMediaTypeError 415
 * │   ├── RateLimitError            429
 * │   └── ServerError               5xx
 * │       └── ServiceUnavailableError 503
 * └── ExportBrokenError             what arrived is not what the server says that it sent
 * ```
 */
import { retryAfterS } from "./retries.js";
import type { ErrorObject, ErrorProblem, RecordedMany } from "./types.js";

/** Root of the tree. A call that is ended by its `AbortSignal` throws the signal's reason instead. */
export class TrajectoryError extends Error {
  /** Where `recordMany` throws: what became of the records before. Else null. */
  recorded: RecordedMany | null = null;

  static {
    this.prototype.name = "TrajectoryError";
  }
}

/** No answer. Whether the request took effect is not known; sending it again is safe. `cause` is what `fetch` threw. */
export class APIConnectionError extends TrajectoryError {
  /** Under which the server would have logged the request. */
  readonly requestId: string | null;

  static {
    this.prototype.name = "APIConnectionError";
  }

  /** Made by the SDK where `fetch` fails, and in tests. */
  constructor(message: string, options?: ErrorOptions & { requestId?: string }) {
    super(message, options);
    this.requestId = options?.requestId ?? null;
  }
}

/** No answer in time. */
export class APITimeoutError extends APIConnectionError {
  static {
    this.prototype.name = "APITimeoutError";
  }
}

/** Count, hash or form of what arrived do not agree with what the server says. What was exported is not to be trusted. */
export class ExportBrokenError extends TrajectoryError {
  static {
    this.prototype.name = "ExportBrokenError";
  }
}

/** What an {@link APIStatusError} is made of. */
export interface ErrorAnswer {
  /** The status of HTTP. */
  status: number;
  /** The error, for programs; empty where a proxy and not the store has answered. */
  code?: string;
  /** The field or parameter that it is about. */
  param?: string | null;
  /** Every problem that was found, at most 100. */
  details?: readonly ErrorProblem[];
  /** Under which the server's log has the request. */
  requestId?: string | null;
  /** When to come again, in seconds. */
  retryAfterS?: number | null;
}

/** An answer with an error. */
export class APIStatusError extends TrajectoryError {
  /** The status of HTTP. */
  readonly status: number;
  /** The error, for programs; empty where a proxy and not the store has answered. */
  readonly code: string;
  /** The field or parameter that it is about. */
  readonly param: string | null;
  /** Every problem that was found, at most 100. */
  readonly details: readonly ErrorProblem[];
  /** Under which the server's log has the request. */
  readonly requestId: string | null;
  /** When to come again, in seconds. */
  readonly retryAfterS: number | null;

  static {
    this.prototype.name = "APIStatusError";
  }

  /** Made by the SDK out of an answer, and in tests. */
  constructor(message: string, answer: ErrorAnswer) {
    super(message);
    this.status = answer.status;
    this.code = answer.code ?? "";
    this.param = answer.param ?? null;
    this.details = answer.details ?? [];
    this.requestId = answer.requestId ?? null;
    this.retryAfterS = answer.retryAfterS ?? null;
  }
}

/** 400: the request says something that cannot be accepted. */
export class BadRequestError extends APIStatusError {
  static {
    this.prototype.name = "BadRequestError";
  }
}
/** 401: no API key, or one that is not good. */
export class AuthenticationError extends APIStatusError {
  static {
    this.prototype.name = "AuthenticationError";
  }
}
/** 403: the API key lacks the scope. */
export class PermissionDeniedError extends APIStatusError {
  static {
    this.prototype.name = "PermissionDeniedError";
  }
}
/** 404: the tenant has no such trajectory. */
export class NotFoundError extends APIStatusError {
  static {
    this.prototype.name = "NotFoundError";
  }
}
/** 408: the server did not get the body in time. */
export class RequestTimeoutError extends APIStatusError {
  static {
    this.prototype.name = "RequestTimeoutError";
  }
}
/** 409: the id was deleted, and does not come back. */
export class ConflictError extends APIStatusError {
  static {
    this.prototype.name = "ConflictError";
  }
}
/** 413: a record or the request is too large. */
export class PayloadTooLargeError extends APIStatusError {
  static {
    this.prototype.name = "PayloadTooLargeError";
  }
}
/** 415: the server does not take this type of content. */
export class UnsupportedMediaTypeError extends APIStatusError {
  static {
    this.prototype.name = "UnsupportedMediaTypeError";
  }
}
/** 429: more than the key may use in a minute. */
export class RateLimitError extends APIStatusError {
  static {
    this.prototype.name = "RateLimitError";
  }
}
/** 5xx. */
export class ServerError extends APIStatusError {
  static {
    this.prototype.name = "ServerError";
  }
}
/** 503: a part of the server that the answer needs is away or busy. */
export class ServiceUnavailableError extends ServerError {
  static {
    this.prototype.name = "ServiceUnavailableError";
  }
}

const OF_STATUS: Readonly<Record<number, typeof APIStatusError>> = {
  400: BadRequestError,
  401: AuthenticationError,
  403: PermissionDeniedError,
  404: NotFoundError,
  408: RequestTimeoutError,
  409: ConflictError,
  413: PayloadTooLargeError,
  415: UnsupportedMediaTypeError,
  429: RateLimitError,
  503: ServiceUnavailableError,
};

/** The error of an answer, whoever wrote it: a proxy's page has no code, and its text is not quoted. */
export function statusError(status: number, body: string, headers: Headers, requestId: string): APIStatusError {
  const said = errorObject(body);
  const Kind = OF_STATUS[status] ?? (status >= 500 ? ServerError : APIStatusError);
  return new Kind(said?.message ?? unsaid(status, headers), {
    status,
    code: said?.code ?? "",
    param: said?.param ?? null,
    details: said?.details ?? [],
    requestId: headers.get("X-Request-Id") ?? requestId,
    retryAfterS: retryAfterS(headers.get("Retry-After")),
  });
}

function errorObject(body: string): ErrorObject | null {
  try {
    const error: unknown = (JSON.parse(body) as { error?: unknown } | null)?.error;
    const isOurs = typeof error === "object" && error !== null && "message" in error && "code" in error;
    return isOurs ? (error as ErrorObject) : null;
  } catch {
    return null;
  }
}

function unsaid(status: number, headers: Headers): string {
  // Status 0 is how a browser shows a redirect that is not followed.
  if (status === 0 || (status >= 300 && status < 400)) {
    const location = headers.get("Location");
    return `The server redirects${location ? ` to ${location}` : ""}; give the address behind it as baseUrl.`;
  }
  return `The server answered with status ${status}.`;
}
