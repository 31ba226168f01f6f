/**
 * The error classes of this SDK.
 *
 * ```text
 * TrajectoryError
 * ├── APIConnectionError            no response: the connection failed or broke
 * │   └── APITimeoutError           no response in time
 * ├── APIStatusError                the server responded with an error
 * │   ├── BadRequestError           400
 * │   ├── AuthenticationError       401
 * │   ├── PermissionDeniedError     403
 * │   ├── NotFoundError             404
 * │   ├── RequestTimeoutError       408
 * │   ├── ConflictError             409  the id was deleted permanently
 * │   │   └── DroppedPhasesError    409  the stored version has phases that the record lacks
 * │   ├── PreconditionFailedError   412  the store has another revision than `ifMatch`
 * │   ├── PayloadTooLargeError      413
 * │   ├── UnsupportedMediaTypeError 415
 * │   ├── RateLimitError            429
 * │   └── ServerError               5xx
 * │       └── ServiceUnavailableError 503
 * └── ExportBrokenError             the received export does not match its end line
 * ```
 */
import { retryAfterS } from "./retries.js";
import type { ErrorObject, ErrorProblem, RecordedMany } from "./types.js";

/** Base class of all errors of this SDK. A call aborted by its `AbortSignal` throws the reason of the signal instead. */
export class TrajectoryError extends Error {
  /** After an error of `recordMany`: the results of the records sent before. Null otherwise. */
  recorded: RecordedMany | null = null;

  static {
    this.prototype.name = "TrajectoryError";
  }
}

/** No response. The request may have taken effect; repeating it is safe. `cause` is the error that `fetch` threw. */
export class APIConnectionError extends TrajectoryError {
  /** Id of the request, as in the log of the server if the request arrived there. */
  readonly requestId: string | null;

  static {
    this.prototype.name = "APIConnectionError";
  }

  /** For the SDK and for tests. */
  constructor(message: string, options?: ErrorOptions & { requestId?: string }) {
    super(message, options);
    this.requestId = options?.requestId ?? null;
  }
}

/** No response in time. */
export class APITimeoutError extends APIConnectionError {
  static {
    this.prototype.name = "APITimeoutError";
  }
}

/** The received export does not match the count, hash or format that the server sent. Do not use the exported records. */
export class ExportBrokenError extends TrajectoryError {
  static {
    this.prototype.name = "ExportBrokenError";
  }
}

/** The properties of an {@link APIStatusError}. */
export interface ErrorAnswer {
  /** HTTP status. */
  status: number;
  /** Machine-readable error code. Empty if a proxy responded instead of the store. */
  code?: string;
  /** The invalid field or parameter. */
  param?: string | null;
  /** All problems found, at most 100. */
  details?: readonly ErrorProblem[];
  /** Id of the request in the log of the server. */
  requestId?: string | null;
  /** Seconds to wait before a retry, if the server gave any. */
  retryAfterS?: number | null;
}

/** The server responded with an error. */
export class APIStatusError extends TrajectoryError {
  /** HTTP status. */
  readonly status: number;
  /** Machine-readable error code. Empty if a proxy responded instead of the store. */
  readonly code: string;
  /** The invalid field or parameter. */
  readonly param: string | null;
  /** All problems found, at most 100. */
  readonly details: readonly ErrorProblem[];
  /** Id of the request in the log of the server. */
  readonly requestId: string | null;
  /** Seconds to wait before a retry, if the server gave any. */
  readonly retryAfterS: number | null;

  static {
    this.prototype.name = "APIStatusError";
  }

  /** For the SDK and for tests. */
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

/** 400: the request is invalid. */
export class BadRequestError extends APIStatusError {
  static {
    this.prototype.name = "BadRequestError";
  }
}
/** 401: the API key is missing or invalid. */
export class AuthenticationError extends APIStatusError {
  static {
    this.prototype.name = "AuthenticationError";
  }
}
/** 403: the API key lacks the required scope. */
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
/** 408: the server did not receive the body in time. */
export class RequestTimeoutError extends APIStatusError {
  static {
    this.prototype.name = "RequestTimeoutError";
  }
}
/** 409: the id was deleted permanently. */
export class ConflictError extends APIStatusError {
  static {
    this.prototype.name = "ConflictError";
  }
}
/** 409: the stored version has phases that the record lacks. Send all phases, use `update`, or set `replace`. */
export class DroppedPhasesError extends ConflictError {
  static {
    this.prototype.name = "DroppedPhasesError";
  }
}
/** 412: the store has another revision than `ifMatch`. Retrieve it, and decide again. */
export class PreconditionFailedError extends APIStatusError {
  static {
    this.prototype.name = "PreconditionFailedError";
  }
}
/** 413: a record or the request is too large. */
export class PayloadTooLargeError extends APIStatusError {
  static {
    this.prototype.name = "PayloadTooLargeError";
  }
}
/** 415: the server does not support this content type. */
export class UnsupportedMediaTypeError extends APIStatusError {
  static {
    this.prototype.name = "UnsupportedMediaTypeError";
  }
}
/** 429: the rate limit of the key is exceeded. */
export class RateLimitError extends APIStatusError {
  static {
    this.prototype.name = "RateLimitError";
  }
}
/** 5xx: the server failed. */
export class ServerError extends APIStatusError {
  static {
    this.prototype.name = "ServerError";
  }
}
/** 503: a required part of the server is unavailable or busy. */
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
  412: PreconditionFailedError,
  413: PayloadTooLargeError,
  415: UnsupportedMediaTypeError,
  429: RateLimitError,
  503: ServiceUnavailableError,
};

const OF_CODE: Readonly<Record<string, typeof APIStatusError>> = { phases_would_be_dropped: DroppedPhasesError };

/** Returns the error of a response. The page of a proxy gives an error without a code; its text is not quoted. */
export function statusError(status: number, body: string, headers: Headers, requestId: string): APIStatusError {
  const sent = errorObject(body);
  const Kind = OF_CODE[sent?.code ?? ""] ?? OF_STATUS[status] ?? (status >= 500 ? ServerError : APIStatusError);
  return new Kind(sent?.message ?? defaultMessage(status, headers), {
    status,
    code: sent?.code ?? "",
    param: sent?.param ?? null,
    details: sent?.details ?? [],
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

function defaultMessage(status: number, headers: Headers): string {
  // Browsers report a redirect that was not followed as status 0.
  if (status === 0 || (status >= 300 && status < 400)) {
    const location = headers.get("Location");
    return `The server redirects${location ? ` to ${location}` : ""}. Set baseUrl to the final address.`;
  }
  return `The response with status ${status} is not from the store (a proxy?).`;
}
