// @ts-check
/**
 * Turnlog for browsers: a page logs its conversation itself.
 *
 *     import { Turnlog } from "https://log.example/static/turnlog.js";
 *     const log = await Turnlog.open({ url: "https://log.example", key: "turnlog_pk_…" });
 *     log.interaction({ prompt: "What is a session?", response: "One conversation." });
 *
 * A record is stored in this browser's queue (IndexedDB) before it is sent, and removed once the service has responded.
 * It keeps its id, so sending it again stores nothing twice. When a page ends, the next page of the same site sends what
 * is still queued, if it opens a log of the same service with the same key or the same `project`.
 */

/**
 * Options of `Turnlog.open`; other properties are fields of the session, as in `POST /v1/sessions`, in camelCase.
 * @typedef {object} Options
 * @property {string} url the service
 * @property {string} [key] a publishable key; or else:
 * @property {() => string | null | Promise<string | null>} [getUserToken] returns the signed-in user's token; called
 *   before each call, so that it can renew the token
 * @property {string} [project] a name for the key's project. Pages with the same name share the queue and the sessions,
 *   also after the key is replaced; pages without one share them if they have the same key
 * @property {string} [sessionId] a UUID, or any text of yours. Default: the tab's last session
 * @property {boolean} [fresh] begin a new session instead of the tab's last one
 * @property {string} [userId]
 * @property {string} [title]
 * @property {string[]} [tags]
 * @property {Record<string, unknown>} [metadata]
 * @property {boolean} [countTurns] number the interactions of this session, across tabs, so that gaps show
 * @property {number} [maxRecords] the most records in the queue
 * @property {number} [maxCharacters]
 * @property {(error: TurnlogError) => void} [onerror] called for records that are refused or can't be
 *   stored; default: the console
 * @property {(status: Status) => void} [onstatus]
 */
/** @typedef {string | Record<string, unknown>[]} Content a text, or messages `{role, content, …}` */
/**
 * An interaction's fields, as in `POST /v1/interactions`, in camelCase.
 * @typedef {object} Fields
 * @property {Content} [prompt]
 * @property {Content} [response]
 * @property {string} [interactionId] of your own, if you repeat calls; without one each call is a new interaction
 * @property {string} [model]
 * @property {string} [provider]
 * @property {"pending" | "completed" | "failed" | "abandoned"} [status]
 * @property {string} [error]
 * @property {string} [finishReason]
 * @property {string | Date} [startedAt]
 * @property {string | Date} [completedAt]
 * @property {number} [latencyMs]
 * @property {number} [timeToFirstTokenMs]
 * @property {number} [inputTokens]
 * @property {number} [outputTokens]
 * @property {number} [cachedInputTokens]
 * @property {number} [cacheWriteTokens]
 * @property {number} [reasoningTokens]
 * @property {number} [costUsd]
 * @property {string} [participant]
 * @property {string} [replyTo]
 * @property {string} [alternativeTo]
 * @property {number} [turn]
 * @property {string[]} [tags]
 * @property {Record<string, unknown>} [metadata]
 */
/**
 * Feedback on an interaction or a session, as in `POST /v1/feedback`, in camelCase.
 * @typedef {object} FeedbackInput
 * @property {boolean | number | string | null} value null takes the feedback back
 * @property {string} [name] what is rated; an author's latest value under a name counts. Default: "rating"
 * @property {string} [comment]
 * @property {string | Date} [givenAt] default: now
 */
/**
 * `altered`: the fields whose text had to be altered so that it can be stored: NUL, and halves of emojis.
 * @typedef {{sessionId: string, interactionId: string, receipt: string, fields: string[], altered?: string[]}} Receipt
 */
/**
 * `state`: everything is delivered; a call is in flight; a call failed and is repeated at `retryAt`; the service refuses
 * this page. `records`: how many are queued. `durable`: whether they survive a reload.
 * @typedef {{state: "idle" | "sending" | "waiting" | "refused", records: number, durable: boolean,
 *   retryAt: Date | null, error: TurnlogError | null}} Status
 */
/**
 * A record in the queue.
 * @typedef {{ref: string, place: string, at: string, body: string, to?: "feedback", altered?: string[]}} QueuedRecord
 */
/** @typedef {{ref: string, receipt?: Receipt, error?: Trouble}} Outcome */
/** @typedef {{detail: string, status?: number, problem?: any, record?: any, kept?: boolean}} Trouble */
/**
 * A session as this browser knows it. `fields`: sent when it is created. `gotAt`, `endsAt`: the token's, in ms.
 * @typedef {{at: string, name: string, key?: string, claim: string, fields: Record<string, unknown>, created: boolean,
 *   token?: string, gotAt: number, endsAt: number, turns: number, usedAt: number}} Session
 */

const MIN_RETRY_MS = 500;
const MAX_RETRY_MS = 60_000;
const CALL_TIMEOUT_MS = 20_000; // then a call is repeated
const SLOWEST_PER_MS = 32; // characters of a call, which extend its time: the service waits as long for them
const MAX_RECORDS_PER_CALL = 100; // of a call
const MAX_CALL_CHARACTERS = 1_000_000; // of several records, so that the loss of a call costs little; a single one may be longer
const ESSENTIAL_FIELDS = ["session_id", "interaction_id", "reply_to", "prompt", "response"]; // never left out of an interaction
const TEXT_FIELDS = ["prompt", "response", "error", "title", "metadata", "comment", "value"]; // the others are names
const KEEPALIVE_BYTES = 60_000; // of calls that outlive their page (keepalive); browsers allow 64 KiB
const TIE_MS = 1000; // feedback within this time is given in order, even if the clock stands still
const RENEW_MS = 300_000; // before a token expires
const SESSION_TTL_MS = 30 * 86_400_000; // unused sessions without queued records are forgotten

/** An error with its reason in `message`. */
export class TurnlogError extends Error {
  /** @param {Trouble} trouble */
  constructor({ detail, status, problem, record, kept = false }) {
    super(detail);
    this.name = "TurnlogError";
    /** The response's HTTP status, if there was one. */
    this.status = status;
    /** The service's problem details, or an item's receipt. */
    this.problem = problem;
    /** The record, as it was sent. */
    this.record = record;
    /** Whether the record is still queued: it is sent again with the next one, or by the next page. */
    this.kept = kept;
  }
}

/** A transient failure: the call is repeated. */
class TransientError extends Error {
  /** @param {string} message @param {number} [pauseMs] how long the service asked to wait */
  constructor(message, pauseMs) {
    super(message);
    this.pauseMs = pauseMs;
  }
}

/** A refusal: repeating the call doesn't help. */
class RefusedError extends Error {
  /** @param {Trouble} trouble */
  constructor(trouble) {
    super(trouble.detail);
    this.trouble = trouble;
  }
}

export class Turnlog {
  /** @type {Options} */ #options;
  /** @type {Queue} */ #queue;
  /** @type {Session} */ #session;
  #url = "";
  #place = "";
  /** @type {BroadcastChannel} */ #channel;
  /** @type {Map<string, {kept: QueuedRecord, resolve: (receipt: Receipt) => void, reject: (error: TurnlogError) => void}>} */
  #waiting = new Map();
  /** @type {Set<string>} */ #inFlight = new Set();
  /** @type {Set<Turn>} */ #turns = new Set();
  /** @type {Status["state"]} */ #state = "idle";
  /** @type {TurnlogError | null} */ #error = null;
  /** @type {Promise<void> | null} */ #delivery = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;
  #adding = 0;
  #lastFeedbackAt = 0;
  #again = false;
  #listing = false;
  #failures = 0;
  #notBefore = 0;
  #hasToWait = false; // the service set the time, so nothing shortens it
  #userToken = "";
  /** @type {Promise<unknown>} */ #added = Promise.resolve();
  /** @type {Set<string>} */ #refusedSessions = new Set();
  #ending = new AbortController();

  /**
   * Opens a log. It needs no connection: records are queued in this browser.
   * @param {Options} options
   * @returns {Promise<Turnlog>}
   */
  static async open(options) {
    const { key, getUserToken } = options;
    const url = new URL(options.url).href.replace(/\/+$/, "");
    if (key?.startsWith("turnlog_sk_")) {
      throw new TypeError("This is a secret key: remove it from the page, revoke it, and use a publishable key");
    }
    if (key && !/^turnlog_pk_[0-9A-Za-z]{30}$/.test(key)) {
      throw new TypeError("`key` is not a publishable key: `turnlog keys create --kind publishable` creates one");
    }
    for (const name of /** @type {const} */ (["sessionId", "userId"])) {
      if (!["undefined", "string"].includes(typeof options[name])) throw new TypeError(`\`${name}\` must be a text`);
    }
    if (!key === !getUserToken) throw new TypeError("Turnlog.open takes either `key` or `getUserToken`");
    const user = getUserToken ? userOf(await getUserToken()) : undefined;
    if (user === null) throw new TypeError("getUserToken returned no user's token: open the log after the user has signed in");
    const place = placeOf(url, options, user);
    const queue = new Queue(options.maxRecords ?? 1000, options.maxCharacters ?? 64_000_000);
    const last = options.fresh ? null : remembered(place);
    const name = options.sessionId ?? last ?? newId();
    if (options.sessionId === undefined) remember(place, name);
    const session = await queue.openSession(place, name, key, fieldsOf(options));
    return new Turnlog(options, queue, session, url, place);
  }

  /** @private use `Turnlog.open` @param {Options} options @param {Queue} queue @param {Session} session
   *  @param {string} url @param {string} place */
  constructor(options, queue, session, url, place) {
    this.#options = options;
    this.#queue = queue;
    this.#session = session;
    this.#url = url;
    this.#place = place;
    this.#channel = new BroadcastChannel(`turnlog ${place}`);
    this.#channel.onmessage = ({ data }) => this.#onMessage(data);
    const { signal } = this.#ending;
    addEventListener("online", () => this.#wake(true), { signal });
    addEventListener("pageshow", () => this.#wake(true), { signal });
    addEventListener("pagehide", (event) => this.#leave(!event.persisted), { signal });
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#leave(false) : this.#wake(true)), {
      signal,
    });
    queue.setTroubleHandler((detail) => this.#report({ detail }));
    this.#wake();
  }

  /** The session's id, or the text that opened it; store it to continue this session later. */
  get sessionId() {
    return this.#session.name;
  }

  /** @returns {Status} */
  get status() {
    return {
      state: this.#state,
      records: this.#queue.size(this.#place) + this.#adding,
      durable: this.#queue.durable,
      retryAt: this.#state === "waiting" ? new Date(this.#notBefore) : null,
      error: this.#error,
    };
  }

  /**
   * Logs an interaction. The promise settles when the service has responded, which may take long while offline: don't
   * await it before you continue. Failures also reach `onerror`, so the promise may be ignored.
   * @param {Fields} fields
   * @returns {Promise<Receipt>}
   */
  interaction(fields) {
    // a caller that names interactions may repeat a call, whose time would contradict the first one
    const named = fields.interactionId ? {} : { interactionId: newId(), startedAt: new Date() };
    return this.#log({ ...named, ...fields }, true);
  }

  /**
   * Begins an interaction whose response comes later: the prompt is logged at once.
   * @param {Fields} fields
   * @returns {Turn}
   */
  begin(fields) {
    const all = { interactionId: newId(), startedAt: new Date(), ...fields };
    const { interactionId } = all;
    /** @type {(fields: Fields) => Promise<Receipt>} */
    const say = (more) => {
      this.#turns.delete(turn);
      return this.#log({ interactionId, ...more }, false);
    };
    const turn = new Turn(interactionId, this.#log(all, true), say, (input) =>
      this.feedback({ interactionId, ...input }),
    );
    this.#turns.add(turn);
    return turn;
  }

  /**
   * Gives feedback on an interaction of this session, or on the session where `interactionId` is left out; changes it or
   * takes it back. Settles as `interaction` does.
   * @param {FeedbackInput & {interactionId?: string}} input
   * @returns {Promise<Receipt>}
   */
  feedback(input) {
    if ("interactionId" in input && input.interactionId === undefined) {
      // an id that got lost must not become feedback on the session
      return Promise.reject(new TurnlogError({ detail: "interactionId is undefined: leave it out to rate the session", record: input }));
    }
    // the later of two values counts, also within a millisecond; a clock that was set back is trusted
    const now = Date.now();
    const isTie = now <= this.#lastFeedbackAt && this.#lastFeedbackAt - now < TIE_MS;
    this.#lastFeedbackAt = isTie ? this.#lastFeedbackAt + 1 : now;
    const givenAt = new Date(this.#lastFeedbackAt);
    const record = { session_id: this.#session.name, ...snakeCased({ givenAt, ...input }) };
    return this.#keep(record, false, "feedback");
  }

  /** Resolves once everything logged so far is in the queue, where it survives a reload. */
  async kept() {
    await this.#added;
  }

  /** Sends the queue now, unless the service asked to wait. @returns {Promise<Status>} */
  async flush() {
    await this.#added;
    this.#wake(true);
    await this.#delivery;
    return this.status;
  }

  /** Empties the queue, for example when the user signs out. @returns {Promise<unknown[]>} the records */
  async discard() {
    const records = await this.#queue.discard(this.#place);
    this.#settle(records.map(({ ref, body }) => ({ ref, error: { detail: "Discarded", record: JSON.parse(body) } })));
    return records.map(({ body }) => JSON.parse(body));
  }

  /** Stops this log; queued records stay in the browser's queue. */
  close() {
    this.#ending.abort();
    clearTimeout(this.#timer);
    this.#channel.close();
  }

  /** @param {Fields} fields @param {boolean} counts whether it counts as a turn @returns {Promise<Receipt>} */
  #log(fields, counts) {
    const record = { session_id: this.#session.name, ...snakeCased(fields) };
    return this.#keep(record, Boolean(counts && this.#options.countTurns && fields.turn === undefined));
  }

  /** @param {Record<string, unknown>} sent @param {boolean} count @param {"feedback"} [to] @returns {Promise<Receipt>} */
  #keep(sent, count, to) {
    const { record, altered } = storable(sent);
    /** @type {QueuedRecord} */
    const kept = { ref: newId(), place: this.#place, at: this.#session.at, body: JSON.stringify(record), ...(to && { to }) };
    if (altered.length) kept.altered = altered;
    const promise = new Promise((/** @type {(receipt: Receipt) => void} */ resolve, reject) => {
      this.#waiting.set(kept.ref, { kept, resolve, reject });
      const added = this.#queue.add(kept, count ? record : null).finally(() => (this.#adding -= 1));
      const settled = added.then(
        () => this.#listing || this.#wake(), // requests are served in order: a listing in progress will include this record
        (error) => this.#settle([{ ref: kept.ref, error: { detail: `Not logged: ${error.message}`, record } }]),
      );
      this.#adding += 1;
      this.#added = Promise.all([this.#added, settled]);
    });
    promise.catch(() => undefined); // onerror gets it
    return promise;
  }

  /** @param {boolean} [atOnce] without waiting for the end of a pause */
  #wake(atOnce = false) {
    if (this.#ending.signal.aborted) return;
    if (atOnce && !this.#hasToWait) this.#notBefore = 0;
    const left = this.#notBefore - Date.now();
    clearTimeout(this.#timer);
    if (left > 0) {
      this.#timer = setTimeout(() => this.#wake(), left);
      return;
    }
    this.#again = true;
    this.#delivery ??= this.#deliver();
  }

  async #deliver() {
    while (this.#again) {
      try {
        // one tab at a time, for one round: a background tab may be slow
        await exclusively(`turnlog ${this.#place}`, () => this.#round());
        this.#failures = this.#notBefore = 0;
        this.#hasToWait = false;
      } catch (error) {
        this.#pause(/** @type {Error} */ (error));
        this.#broadcast({ notBefore: this.#notBefore, hasToWait: this.#hasToWait });
      }
    }
    this.#delivery = null;
    this.#changed();
  }

  async #round() {
    /** @type {Trouble | null} */ let refusal = null;
    for (const at of await this.#list()) {
      if (this.#refusedSessions.has(at)) continue;
      try {
        for (let kept; (kept = await this.#queue.next(at)).length;) {
          if (this.#ending.signal.aborted) return;
          this.#changed("sending");
          await this.#send(at, kept);
        }
      } catch (error) {
        if (!(error instanceof RefusedError)) throw error;
        await this.#refuse(at, error.trouble);
        if (error.trouble.kept) refusal = error.trouble;
        if (at !== this.#session.at) this.#refusedSessions.add(at); // another page may succeed
      }
    }
    if (refusal) this.#report(refusal);
    else this.#error = null;
    this.#state = refusal ? "refused" : "idle";
  }

  /** @returns {Promise<string[]>} the sessions with queued records, including those added just now */
  async #list() {
    this.#again = false;
    this.#listing = true;
    try {
      return await this.#queue.sessions(this.#place);
    } finally {
      this.#listing = false;
    }
  }

  /** @param {string} at @param {Trouble} trouble the same for each record of a session */
  async #refuse(at, trouble) {
    const all = await this.#queue.next(at, Infinity);
    this.#settle(all.map(({ ref, body }) => ({ ref, error: { ...trouble, record: JSON.parse(body) } })));
    if (!trouble.kept) await this.#queue.remove(all);
  }

  /** @param {string} at @param {QueuedRecord[]} kept */
  async #send(at, kept) {
    const other = kept.findIndex(({ to }) => to);
    if (other >= 0 && kept.length > 1) {
      // feedback has calls of its own
      for (const part of [kept.slice(0, other), [kept[other]], kept.slice(other + 1)]) {
        if (part.length) await this.#send(at, part);
      }
      return;
    }
    let answer = await this.#post(await this.#ready(at), kept);
    // by this machine's clock, a token may expire early
    if (answer.status === 403) answer = await this.#post(await this.#ready(at, true), kept);
    const undated = answer.status === 422 && kept[0].to && (await withoutTime(answer.clone(), kept[0]));
    if (undated) answer = await this.#post(await this.#ready(at), [undated]);
    if (answer.ok) {
      const receipts = await receiptsOf(answer, kept);
      if (!kept[0].to) await this.#retryWithoutRefused(at, kept, receipts);
      await this.#finish(kept, receipts);
    } else if ([400, 409, 410, 413, 415, 422].includes(answer.status)) {
      if (kept.length === 1) return this.#finish(kept, [{ receipt: "rejected", ...(await jsonOf(answer)) }]);
      for (const one of kept) await this.#send(at, [one]); // to find the refused one
    } else {
      throw new RefusedError(await troubleOf(answer, true));
    }
  }

  /**
   * Sends invalid interactions again without the fields that the service named, unless these are what was said, or ids.
   * @param {string} at @param {QueuedRecord[]} kept @param {any[]} receipts those of what is stored now are replaced
   */
  async #retryWithoutRefused(at, kept, receipts) {
    for (const [index, receipt] of receipts.entries()) {
      if (receipt.reason !== "invalid") continue;
      const { body } = kept[index];
      const fields = receipt.fields.map((/** @type {any} */ { path }) => ({ path: path.replace(/^\$\.interactions\[\d+\]/, "$") }));
      const { rest, dropped } = withoutRefused(JSON.parse(body), { fields });
      if (!Object.keys(rest).length || dropped.some((name) => ESSENTIAL_FIELDS.includes(name))) continue;
      const one = [{ ...kept[index], body: JSON.stringify(rest) }];
      const answer = await this.#post(await this.#ready(at), one);
      const [again] = answer.ok ? await receiptsOf(answer, one) : [];
      if (!again || again.receipt === "rejected" || again.receipt === "conflict") continue;
      const { detail, ...trouble } = /** @type {Trouble} */ (outcomeOf(receipt, body).error);
      this.#report({ ...trouble, detail: `Logged without ${dropped.join(", ")}. ${detail}` });
      receipts[index] = again;
    }
  }

  /** @param {Session} session @param {QueuedRecord[]} kept */
  async #post(session, kept) {
    const authorization = await this.#authorization(session);
    for (const { ref } of kept) this.#inFlight.add(ref);
    try {
      return await this.#call(pathOf(kept), bodyOf(kept), authorization, session.token);
    } finally {
      for (const { ref } of kept) this.#inFlight.delete(ref);
    }
  }

  /** @param {QueuedRecord[]} kept @param {any[]} receipts */
  async #finish(kept, receipts) {
    // settled first: a crash in between leaves a record that is sent again, not a promise that never settles
    this.#settle(kept.map(({ ref, body, altered }, index) => ({ ref, ...outcomeOf(receipts[index], body, altered) })));
    await this.#queue.remove(kept);
    this.#failures = 0;
  }

  /**
   * Returns a session ready for appending: created, and with a valid token.
   * @param {string} at @param {boolean} [renew]
   * @returns {Promise<Session>}
   */
  async #ready(at, renew = false) {
    const session = (await this.#queue.session(at)) ?? this.#session;
    const now = Date.now();
    const over = session.endsAt - now < RENEW_MS && now - session.gotAt > MAX_RETRY_MS;
    if (at === this.#session.at) this.#session = session;
    if (session.created && !renew && !(session.key && over)) return session;
    let fields = session.created ? {} : session.fields;
    let answer = await this.#open(session, fields);
    /** @type {Trouble[]} */ const troubles = [];
    while ([400, 409, 413, 422].includes(answer.status) && Object.keys(fields).length) {
      // a title that is too long, or contradicts the stored one, must cost neither the other fields nor the interactions
      const trouble = await troubleOf(answer);
      const { rest, dropped } = withoutRefused(fields, trouble.problem);
      troubles.push({ ...trouble, detail: `The session is logged without its ${dropped.join(", ")}: ${trouble.detail}` });
      answer = await this.#open(session, (fields = rest));
    }
    if (answer.ok) for (const trouble of troubles) this.#report(trouble);
    // another caller's session, or an erased one, will never accept these records
    if (!answer.ok) throw new RefusedError(await troubleOf(answer, answer.status !== 409 && answer.status !== 410));
    const { session_token: token, session_token_expires_at: end } = await jsonOf(answer);
    if (session.key && !token) throw new TransientError("The service's response has no session token");
    Object.assign(session, { created: true, token, gotAt: now, endsAt: Date.parse(end) || now });
    await this.#queue.update(session);
    return session;
  }

  /** @param {Session} session @param {Record<string, unknown>} fields */
  async #open(session, fields) {
    const body = JSON.stringify({ session_id: session.name, ...storable(fields).record });
    const claim = session.key ? session.claim : undefined;
    return this.#call("sessions", body, await this.#authorization(session), undefined, claim);
  }

  /** @param {Session} session @returns {Promise<string>} */
  async #authorization(session) {
    if (session.key) return session.key;
    const token = await this.#options.getUserToken?.();
    const user = userOf(token);
    if (!token || !user || placeOf(this.#url, this.#options, user) !== this.#place) {
      // one user's records are never sent in another user's name
      throw new RefusedError({ detail: "No user is signed in, or another one", kept: true });
    }
    return (this.#userToken = token);
  }

  /**
   * @param {string} what @param {string} body @param {string} authorization @param {string} [token] the session's
   * @param {string} [claim] @returns {Promise<Response>}
   */
  async #call(what, body, authorization, token, claim) {
    let answer;
    try {
      // a beacon outlives the page as well, but can't send the key
      const keepalive = this.#failures === 0 && new Blob([body]).size <= KEEPALIVE_BYTES;
      answer = await fetch(`${this.#url}/v1/${what}`, {
        method: "POST",
        body,
        keepalive,
        cache: "no-store",
        credentials: "omit",
        redirect: "error",
        signal: AbortSignal.timeout(CALL_TIMEOUT_MS + body.length / SLOWEST_PER_MS),
        headers: {
          Authorization: `Bearer ${authorization}`,
          "Content-Type": "application/json",
          ...(token && { "Turnlog-Session-Token": token }),
          ...(claim && { "Turnlog-Session-Claim": claim }),
        },
      });
    } catch (error) {
      throw new TransientError(`${this.#url} can't be reached from this page: ${/** @type {Error} */ (error).message}`);
    }
    const { status } = answer;
    if (status === 408 || status === 429 || status >= 500) {
      throw new TransientError(`The service answered ${status}`, pauseOf(answer.headers.get("Retry-After")));
    }
    if (status === 401 || status === 404) throw new RefusedError(await troubleOf(answer, true));
    return answer;
  }

  /** @param {Error} error */
  #pause(error) {
    const asked = error instanceof TransientError ? error.pauseMs : undefined;
    const longest = Math.min(MAX_RETRY_MS, MIN_RETRY_MS * 2 ** this.#failures++);
    // at least as long as the service asked; random, so that pages don't retry all at once
    this.#notBefore = Date.now() + (asked ?? 0) + (longest * (1 + Math.random())) / 2;
    this.#hasToWait = asked !== undefined;
    this.#error = new TurnlogError({ detail: error.message, kept: true });
    this.#state = "waiting";
    this.#again = false;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#wake(), this.#notBefore - Date.now());
  }

  /** @param {boolean} forGood whether the page never comes back */
  #leave(forGood) {
    if (forGood) for (const turn of this.#turns) void turn.abandon();
    const session = this.#session;
    const authorization = session.key ?? this.#userToken;
    // synchronously: awaiting anything before the call could lose it
    if (session.created && authorization && !(this.#hasToWait && Date.now() < this.#notBefore)) {
      let room = KEEPALIVE_BYTES - 100;
      const kept = [...this.#waiting.values()]
        .map((waiting) => waiting.kept)
        .filter(({ ref, body }) => !this.#inFlight.has(ref) && (room -= new Blob([body]).size + 1) > 0);
      const interactions = kept.filter(({ to }) => !to);
      for (const part of [interactions, ...kept.filter(({ to }) => to).map((one) => [one])]) {
        if (part.length) this.#sendLast(part, authorization, session.token);
      }
    }
    if (forGood) this.#broadcast({ wake: true });
  }

  /** @param {QueuedRecord[]} kept @param {string} authorization @param {string} [token] */
  #sendLast(kept, authorization, token) {
    this.#call(pathOf(kept), bodyOf(kept), authorization, token)
      .then(async (answer) => this.#finish(kept, await receiptsOf(answer, kept)))
      .catch(() => this.#wake()); // the records are still queued
  }

  /** @param {any} message for this site's other tabs */
  #broadcast(message) {
    if (!this.#ending.signal.aborted) this.#channel.postMessage(message);
  }

  /** @param {any} message from another tab */
  #onMessage({ settled, notBefore, hasToWait, wake }) {
    if (settled) this.#settle(settled, false);
    if (notBefore > this.#notBefore) [this.#notBefore, this.#hasToWait] = [notBefore, hasToWait];
    if (wake || (notBefore && this.#waiting.size)) this.#wake();
  }

  /** @param {Outcome[]} outcomes @param {boolean} [ours] whether this tab got them; another tab may await them */
  #settle(outcomes, ours = true) {
    if (ours && outcomes.length) this.#broadcast({ settled: outcomes });
    for (const { ref, receipt, error } of outcomes) {
      const waiting = this.#waiting.get(ref);
      this.#waiting.delete(ref);
      if (receipt) waiting?.resolve(receipt);
      if (error) waiting?.reject(new TurnlogError(error));
      // records that stay queued have one reason, which is reported once
      if (error && !error.kept && (waiting || ours)) this.#report(error);
    }
    this.#changed();
  }

  /** @param {Trouble} trouble */
  #report(trouble) {
    const error = (this.#error = new TurnlogError(trouble));
    if (this.#options.onerror) guarded(() => this.#options.onerror?.(error));
    else console.error("Turnlog:", error);
  }

  /** @param {Status["state"]} [state] */
  #changed(state = this.#state) {
    this.#state = state;
    guarded(() => this.#options.onstatus?.(this.status));
  }
}

/** An interaction whose response comes later. */
class Turn {
  #started = performance.now();
  /** @type {number | undefined} */ #firstToken;
  #text = "";
  #over = false;
  /** @type {(fields: Fields) => Promise<Receipt>} */ #log;
  /** @type {(input: FeedbackInput) => Promise<Receipt>} */ #sendFeedback;

  /** @param {string} interactionId @param {Promise<Receipt>} logged @param {(fields: Fields) => Promise<Receipt>} say
   *  @param {(input: FeedbackInput) => Promise<Receipt>} sendFeedback */
  constructor(interactionId, logged, say, sendFeedback) {
    this.interactionId = interactionId;
    /** The receipt of the prompt. */
    this.logged = logged;
    this.#log = say;
    this.#sendFeedback = sendFeedback;
  }

  /** Gives feedback on this interaction, before or after its end. @param {FeedbackInput} input */
  feedback(input) {
    return this.#sendFeedback(input);
  }

  /** Appends to the response, and measures the time to its first part. @param {string} text */
  append(text) {
    this.#firstToken ??= performance.now();
    this.#text += text;
  }

  /** Logs the response: the appended text, unless `fields` has one. @param {Fields} [fields] */
  complete(fields = {}) {
    return this.#end({
      response: this.#text,
      completedAt: new Date(),
      latencyMs: this.#since(performance.now()),
      ...fields,
    });
  }

  /** Logs a failure, with the response so far. @param {unknown} error @param {Fields} [fields] */
  fail(error, fields = {}) {
    const said = error instanceof Error ? error.message || error.name : String(error);
    return this.#end({ status: "failed", error: said, response: this.#text || undefined, ...fields });
  }

  /** Logs that the user left before the end; a page that ends does so itself. @param {Fields} [fields] */
  abandon(fields = {}) {
    return this.#end({ status: "abandoned", response: this.#text || undefined, ...fields });
  }

  /** @param {Fields} fields */
  #end(fields) {
    if (this.#over) throw new Error("This interaction has ended already");
    this.#over = true;
    return this.#log({ timeToFirstTokenMs: this.#firstToken && this.#since(this.#firstToken), ...fields });
  }

  /** @param {number} moment */
  #since(moment) {
    return Math.round((moment - this.#started) * 10) / 10;
  }
}

/** Queued records and their sessions, in IndexedDB; in the page's memory if that is unavailable. */
class Queue {
  /** @type {Promise<IDBDatabase> | null} */ #database = null;
  /** @type {Map<string, QueuedRecord>} */ #records = new Map();
  /** @type {Map<string, Session>} */ #sessions = new Map();
  /** @type {Map<string, number>} */ #sizes = new Map();
  /** @type {(detail: string) => void} */ #ontrouble = () => undefined;
  #trouble = "";

  /** @param {number} maxRecords @param {number} maxCharacters for each place */
  constructor(maxRecords, maxCharacters) {
    this.maxRecords = maxRecords;
    this.maxCharacters = maxCharacters;
  }

  get durable() {
    return !this.#trouble;
  }

  /** @param {(detail: string) => void} handler */
  setTroubleHandler(handler) {
    this.#ontrouble = handler;
    if (this.#trouble) handler(this.#trouble);
  }

  /** @param {string} place how many records wait there, as far as this page knows */
  size(place) {
    return (this.#sizes.get(place) ?? 0) + this.#records.size;
  }

  /**
   * @param {string} place @param {string} name @param {string | undefined} key
   * @param {Record<string, unknown>} fields
   * @returns {Promise<Session>} the same for all tabs
   */
  async openSession(place, name, key, fields) {
    const at = `${place}\n${name}`;
    const now = Date.now();
    /** @type {(known?: Session) => Session} */
    const opened = (
      known = { at, name, claim: newClaim(), fields: {}, created: false, gotAt: 0, endsAt: 0, turns: 0, usedAt: 0 },
    ) => ({
      ...known,
      key,
      fields: { ...fields, ...known.fields },
      created: known.created && Object.keys(fields).every((field) => field in known.fields),
      usedAt: now,
    });
    try {
      return await this.#transact("readwrite", async ({ sessions, records, places }) => {
        await this.#count(places, place);
        for (const { at, usedAt } of await requested(sessions.getAll())) {
          if (usedAt < now - SESSION_TTL_MS && !(await requested(records.index("at").count(at)))) sessions.delete(at);
        }
        const session = opened(await requested(sessions.get(at)));
        sessions.put(session);
        return session;
      });
    } catch (error) {
      this.#note(error);
      const session = opened();
      this.#sessions.set(at, session);
      return session;
    }
  }

  /** @param {string} at @returns {Promise<Session | undefined>} undefined if the user has cleared the browser's data */
  async session(at) {
    return this.#sessions.get(at) ?? this.#transact("readonly", ({ sessions }) => requested(sessions.get(at)));
  }

  /** @param {Session} session with its new token */
  async update(session) {
    if (this.#sessions.has(session.at)) return void this.#sessions.set(session.at, session);
    await this.#transact("readwrite", async ({ sessions }) => {
      const { turns } = (await requested(sessions.get(session.at))) ?? session; // other tabs count turns, too
      sessions.put({ ...session, turns });
    });
  }

  /** @param {QueuedRecord} kept @param {Record<string, unknown> | null} turn the record, if it needs a turn number */
  async add(kept, turn) {
    const { place, at } = kept;
    /** @type {(session: Session) => void} */
    const count = (session) => void (kept.body = JSON.stringify({ ...turn, turn: ++session.turns }));
    if (!this.#sessions.has(at)) {
      try {
        return await this.#transact("readwrite", async ({ sessions, records, places }) => {
          if (turn) {
            const session = await requested(sessions.get(at));
            count(session);
            sessions.put(session);
          }
          const held = (await requested(places.get(place))) ?? { place, records: 0, characters: 0 };
          held.records += 1;
          held.characters += kept.body.length;
          this.#refuseIfFull(held.records, held.characters);
          places.put(held);
          records.add(kept);
          this.#sizes.set(place, held.records);
        });
      } catch (error) {
        if (error instanceof Full) throw error;
        this.#note(error);
      }
    }
    const session = this.#sessions.get(at);
    if (turn && session) count(session);
    const held = [...this.#records.values(), kept];
    this.#refuseIfFull(
      held.length,
      held.reduce((sum, { body }) => sum + body.length, 0),
    );
    this.#records.set(kept.ref, kept);
  }

  /** @param {number} records @param {number} characters */
  #refuseIfFull(records, characters) {
    if (records > this.maxRecords || characters > this.maxCharacters) throw new Full("this browser's queue is full");
  }

  /** @param {string} place @returns {Promise<string[]>} the sessions with queued records */
  async sessions(place) {
    /** @type {Set<string>} */ const found = new Set();
    if (!this.#sessions.size) {
      await this.#transact("readonly", async ({ records, places }) => {
        await this.#count(places, place);
        const range = IDBKeyRange.bound(`${place}\n`, `${place}\n\uffff`);
        const walk = records.index("at").openKeyCursor(range, "nextunique");
        for (let cursor; (cursor = await requested(walk)); cursor.continue()) found.add(String(cursor.key));
      });
    }
    for (const { at } of this.#records.values()) found.add(at); // last, since a record may have been added just now
    return [...found];
  }

  /** @param {IDBObjectStore} places @param {string} place which other pages change, too */
  async #count(places, place) {
    this.#sizes.set(place, (await requested(places.get(place)))?.records ?? 0);
  }

  /** @param {string} at @param {number} [most] @returns {Promise<QueuedRecord[]>} the oldest, as many as fit into a call */
  async next(at, most = MAX_RECORDS_PER_CALL) {
    const loose = [...this.#records.values()].filter((kept) => kept.at === at);
    const limit = most === Infinity ? undefined : most;
    const found = this.#sessions.size
      ? []
      : await this.#transact("readonly", ({ records }) => requested(records.index("at").getAll(at, limit)));
    let room = limit ? MAX_CALL_CHARACTERS : Infinity;
    return [...found, ...loose].slice(0, limit).filter(({ body }, index) => (room -= body.length) > 0 || index === 0);
  }

  /** @param {QueuedRecord[]} kept */
  async remove(kept) {
    const stored = kept.filter(({ ref }) => !this.#records.delete(ref));
    if (!stored.length || this.#sessions.size) return;
    await this.#transact("readwrite", async ({ records, places }) => {
      const held = await requested(places.get(stored[0].place));
      for (const { ref, body } of stored) {
        if ((await requested(records.count(ref))) === 0) continue; // another tab was first
        records.delete(ref);
        held.records -= 1;
        held.characters -= body.length;
      }
      places.put(held);
      this.#sizes.set(held.place, held.records);
    });
  }

  /** @param {string} place @returns {Promise<QueuedRecord[]>} */
  async discard(place) {
    const all = [];
    for (const at of await this.sessions(place)) all.push(...(await this.next(at, Infinity)));
    await this.remove(all);
    return all;
  }

  /**
   * @template T
   * @param {IDBTransactionMode} mode
   * @param {(stores: Record<"sessions" | "records" | "places", IDBObjectStore>) => Promise<T>} work
   * @returns {Promise<T>} once it is on the disk
   */
  async #transact(mode, work) {
    const database = await (this.#database ??= this.#connect());
    const transaction = database.transaction(["sessions", "records", "places"], mode, { durability: "strict" });
    const done = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error ?? new Error("the browser aborted the transaction"));
    });
    done.catch(() => undefined); // awaited below, unless the work fails first
    const [sessions, records, places] = ["sessions", "records", "places"].map((name) => transaction.objectStore(name));
    try {
      const result = await work({ sessions, records, places });
      transaction.commit?.(); // at once, as the page may be ending
      await done;
      return result;
    } catch (error) {
      try {
        transaction.abort();
      } catch {
        // it has ended already
      }
      throw error;
    }
  }

  /** @returns {Promise<IDBDatabase>} */
  async #connect() {
    try {
      const request = indexedDB.open("turnlog", 1);
      request.onupgradeneeded = () => {
        request.result.createObjectStore("sessions", { keyPath: "at" });
        request.result.createObjectStore("records", { keyPath: "ref" }).createIndex("at", "at");
        request.result.createObjectStore("places", { keyPath: "place" });
      };
      const database = await requested(request);
      database.onclose = database.onversionchange = () => {
        database.close();
        this.#database = null;
      };
      return database;
    } catch (error) {
      this.#database = null;
      throw error;
    }
  }

  /** @param {unknown} error */
  #note(error) {
    const known = this.#trouble;
    this.#trouble = `Queued records are lost when the page ends, because IndexedDB is unavailable: ${/** @type {Error} */ (error).message}`;
    if (!known) this.#ontrouble(this.#trouble);
  }
}

class Full extends Error {}

/** @template T @param {IDBRequest<T>} request @returns {Promise<T>} */
function requested(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** @param {string} name @param {() => Promise<void>} work */
async function exclusively(name, work) {
  // pages without TLS have no locks: two tabs may send the same record, which is stored once
  await (navigator.locks ? navigator.locks.request(name, work) : work());
}

/** @param {() => void} callback of the page, whose errors must not stop the log */
function guarded(callback) {
  try {
    callback();
  } catch (error) {
    reportError(error);
  }
}

/** @param {QueuedRecord[]} kept interactions, or one item of feedback */
function pathOf(kept) {
  return kept[0].to ?? "interactions/batch";
}

/** @param {QueuedRecord[]} kept */
function bodyOf(kept) {
  if (kept[0].to) return kept[0].body;
  return `{"interactions":[${kept.map(({ body }) => body).join()}]}`;
}

/** @param {Response} answer @returns {Promise<any>} */
async function jsonOf(answer) {
  return answer.json().catch(() => ({}));
}

/**
 * Returns feedback without its time, so that the service sets it, if the service refused the time as being ahead.
 * @param {Response} answer @param {QueuedRecord} kept @returns {Promise<QueuedRecord | undefined>}
 */
async function withoutTime(answer, kept) {
  const { given_at: givenAt, ...rest } = JSON.parse(kept.body);
  const { fields = [] } = await jsonOf(answer);
  const isMeant = fields.some((/** @type {any} */ field) => field.path === "$.given_at");
  if (isMeant && Date.parse(givenAt) <= Date.now()) return { ...kept, body: JSON.stringify(rest) };
}

/** @param {Response} answer @param {boolean} [kept] @returns {Promise<Trouble>} */
async function troubleOf(answer, kept = false) {
  const problem = await jsonOf(answer);
  return { detail: problem.detail ?? `The service answered ${answer.status}`, status: answer.status, problem, kept };
}

/** @param {Response} answer @param {QueuedRecord[]} kept @returns {Promise<any[]>} */
async function receiptsOf(answer, kept) {
  const body = await jsonOf(answer);
  const receipts = kept[0].to ? body.receipt && [body] : body.receipts;
  // a captive portal may respond in the service's place
  if (!answer.ok || receipts?.length !== kept.length) throw new TransientError(`The response (status ${answer.status}) is not the service's`);
  return receipts;
}

/**
 * @param {any} receipt @param {string} body @param {string[]} [altered] before it was queued
 * @returns {{receipt?: Receipt, error?: Trouble}}
 */
function outcomeOf(receipt, body, altered) {
  const { session_id: sessionId, interaction_id: interactionId, receipt: outcome, fields = [] } = receipt;
  if (outcome !== "conflict" && outcome !== "rejected") {
    return { receipt: { sessionId, interactionId, receipt: outcome, fields, ...(altered && { altered }) } };
  }
  const named = fields.map((/** @type {any} */ field) => `${field.path}: ${field.detail}`).join("; ");
  const detail = `The ${"value" in JSON.parse(body) ? "feedback" : "interaction"} was refused: ${[receipt.reason ?? receipt.detail, named].filter(Boolean).join(", ")}`;
  return { error: { detail, status: receipt.status, problem: receipt, record: JSON.parse(body) } };
}

/** @param {string | null} text the header Retry-After @returns {number | undefined} ms */
function pauseOf(text) {
  if (!text) return undefined;
  const pause = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return pause > 0 ? pause : undefined;
}

/** @param {string | null | undefined} token a JWT, which the service verifies @returns {string | null} its user */
function userOf(token) {
  try {
    const payload = (token ?? "").split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return JSON.parse(atob(payload)).sub || null;
  } catch {
    return null;
  }
}

/**
 * @param {string} url @param {Options} options @param {string} [user]
 * @returns {string} the queue's name: one project's or one user's records never get to another
 */
function placeOf(url, { key, project }, user) {
  return `${url} ${JSON.stringify({ user, project: project || key || undefined })}`;
}

/** @param {Options} options @returns {Record<string, unknown>} the session's own */
function fieldsOf(options) {
  const ours = [
    "url",
    "key",
    "getUserToken",
    "project",
    "sessionId",
    "fresh",
    "countTurns",
    "maxRecords",
    "maxCharacters",
    "onerror",
    "onstatus",
  ];
  return snakeCased(Object.fromEntries(Object.entries(options).filter(([name]) => !ours.includes(name))));
}

/**
 * Returns a record with each NUL in its texts as "␀" and each half of an emoji as U+FFFD, since no database holds them,
 * and the paths of the fields that were altered. Names are left as they are: the service refuses these.
 * @param {Record<string, unknown>} record
 */
function storable(record) {
  const altered = [];
  const fields = { ...record };
  for (const name of TEXT_FIELDS) {
    const json = JSON.stringify(fields[name]); // escapes exactly these
    if (!json || !/\\u(0000|d[89a-f])/.test(json)) continue;
    const text = json.replace(/\\(u0000|ud[89a-f]..|.)/g, (escape, what) =>
      what === "u0000" ? "\u2400" : what.length > 1 ? "\ufffd" : escape,
    );
    if (text === json) continue; // a backslash before a "u", as in a path
    fields[name] = JSON.parse(text);
    altered.push(`$.${name}`);
  }
  return { record: fields, altered };
}

/**
 * Returns a session's fields without those that the service refused, or none if it names none of them.
 * @param {Record<string, unknown>} fields @param {any} problem
 */
function withoutRefused(fields, problem) {
  const rest = { ...fields };
  const dropped = [];
  for (const { path } of problem?.fields ?? []) {
    const [, name, key] = /^\$\.(\w+)(?:\.(\w+))?/.exec(path) ?? [];
    const inner = /** @type {Record<string, unknown>} */ (rest[name]);
    if (name === "metadata" && key && inner && key in inner) {
      rest.metadata = Object.fromEntries(Object.entries(inner).filter(([each]) => each !== key));
      dropped.push(`metadata.${key}`);
    } else if (name in rest) {
      delete rest[name];
      dropped.push(name);
    }
  }
  return dropped.length ? { rest, dropped } : { rest: {}, dropped: ["fields"] };
}

/** @param {object} fields @returns {Record<string, unknown>} with the API's names */
function snakeCased(fields) {
  const given = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries(
    given.map(([name, value]) => [name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`), value]),
  );
}

/** @param {string} place @returns {string | null} the tab's last session */
function remembered(place) {
  try {
    return sessionStorage.getItem(`turnlog ${place}`);
  } catch {
    return null; // storage may be forbidden
  }
}

/** @param {string} place @param {string} name */
function remember(place, name) {
  try {
    sessionStorage.setItem(`turnlog ${place}`, name);
  } catch {
    // the next page begins a new session
  }
}

/** @returns {string} a secret of this browser, so that no other client gets a token for its session */
function newClaim() {
  return hex(crypto.getRandomValues(new Uint8Array(24)));
}

let lastTime = 0;
let inThisMs = 0;

/** @returns {string} a UUIDv7, greater than the one before, so that ids sort in the order of creation */
function newId() {
  const now = Math.max(Date.now(), lastTime);
  inThisMs = now === lastTime ? inThisMs + 1 : 0;
  lastTime = now + (inThisMs >> 12);
  inThisMs &= 4095;
  const random = crypto.getRandomValues(new Uint8Array(8));
  random[0] = 128 | (random[0] & 63);
  const digits = lastTime.toString(16).padStart(12, "0") + (0x7000 + inThisMs).toString(16) + hex(random);
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** @param {Uint8Array} bytes */
function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
