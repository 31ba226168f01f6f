/** Recommendations of the store, evaluations of policies and alerts. */
import type { Config } from "./config.js";
import { TrajectoryError } from "./errors.js";
import { type Http, JSON_TYPE } from "./http.js";
import { textOf } from "./totals.js";
import type {
  Alerts,
  CandidateModel,
  EvaluationRequest,
  Phase,
  PolicyEvaluation,
  Recommendation,
  RecommendationRequest,
  RequestOptions,
} from "./types.js";

/** Fields of a recommendation's request besides phase and candidates. */
export type RecommendationFields = Omit<RecommendationRequest, "phase" | "candidates">;
/** Fields of an evaluation's request besides the policy. */
export type EvaluationFields = Omit<EvaluationRequest, "policy">;

/** A question that a pipeline waits for gets no longer than this. */
const QUICK_MS = 2_000;

/** The operations on recommendations, as `client.recommendations`. */
export class Recommendations {
  readonly #http: Http;

  /** @internal */
  constructor(http: Http) {
    this.#http = http;
  }

  /**
   * Returns an action for the next phase with its probability, and what is known of the others. Nothing is stored: record the phase
   * with the fields in `record`, or let `run.phase` do it with `recommend`.
   *
   * @param candidates names of models, or objects with their cost or prices.
   * @throws {@link BadRequestError} 400: the request is invalid. `details` has every problem with its path.
   */
  async create(
    phase: string,
    candidates: readonly (string | CandidateModel)[],
    fields: RecommendationFields = {},
    options?: RequestOptions,
  ): Promise<Recommendation> {
    return post(this.#http, "/v1/agent/recommendations", { phase, candidates: candidates.map(named), ...fields }, options?.signal);
  }
}

/** The operations on evaluations of policies, as `client.evaluations`. */
export class Evaluations {
  readonly #http: Http;

  /** @internal */
  constructor(http: Http) {
    this.#http = http;
  }

  /** Returns the mean reward that a policy would have had, or in `refusal` why it cannot be known. */
  async create(policy: EvaluationRequest["policy"], fields: EvaluationFields = {}, options?: RequestOptions): Promise<PolicyEvaluation> {
    return post(this.#http, "/v1/agent/evaluations", { policy, ...fields }, options?.signal);
  }
}

export async function alerts(http: Http, weeks: number | undefined, options?: RequestOptions): Promise<Alerts> {
  return http.call({ method: "GET", path: "/v1/agent/alerts", query: { weeks }, signal: options?.signal });
}

/** What a phase asks the store before it runs. */
export interface AdviceOptions {
  /** Ask the store for the model, and record candidates and propensity by its answer. An object has more fields of the request. */
  recommend?: boolean | RecommendationFields | undefined;
  /** The model to use when the store does not answer; required with `recommend`. */
  default?: string | undefined;
}

/** What is known of a run before a decision. */
export type Known = Pick<RecommendationRequest, "request_type" | "project" | "phases">;
/** Asks for a recommendation; null if the store gives none. */
export type Ask = (request: RecommendationRequest) => Promise<Recommendation>;

export function adviser(http: Http, { timeoutS }: Pick<Config, "timeoutS">): Ask {
  return (request) => post(http, "/v1/agent/recommendations", request, AbortSignal.timeout(Math.min(timeoutS * 1_000, QUICK_MS)), 0);
}

/** Returns the answer, and the fields of the phase: those of the answer, or the default and the candidates. */
export async function advised(
  ask: Ask,
  name: string,
  candidates: Phase["candidates"],
  { recommend, default: model }: AdviceOptions,
  known: Known,
): Promise<[Recommendation | null, Partial<Phase>]> {
  if (!candidates?.length || model === undefined) {
    throw new TypeError("recommend needs candidates, and the default that is used when the store does not answer");
  }
  const models = candidates.map((one) => ({ model: one.model }));
  try {
    const answer = await ask({ phase: name, candidates: models, ...known, ...(typeof recommend === "object" && recommend) });
    if (answer.record) return [answer, answer.record as Partial<Phase>];
  } catch (error) {
    if (!(error instanceof TrajectoryError || (error as Error).name === "TimeoutError")) throw error;
    console.warn(`trajectories-sdk: phase ${name} goes on with ${model}, because no recommendation came: ${textOf(error)}`);
  }
  return [null, { model, model_selection_method: "explicit", selection_rule: "default", candidates: models }];
}

function named(candidate: string | CandidateModel): CandidateModel {
  return typeof candidate === "string" ? { model: candidate } : candidate;
}

function post<T extends object>(http: Http, path: string, body: object, signal?: AbortSignal, maxRetries?: number): Promise<T> {
  const data = new TextEncoder().encode(JSON.stringify(body));
  return http.call<T>({ method: "POST", path, body: data, contentType: JSON_TYPE, signal }, maxRetries);
}
