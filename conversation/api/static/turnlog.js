// @ts-check
/**
 * Turnlog for browsers: a page logs its conversation itself.
 *
 *     import { Turnlog } from "https://log.example/static/turnlog.js";
 *     const log = await Turnlog.open({ url: "https://log.example", key: "turnlog_pk_…" });
 *     log.interaction({ prompt: "What is a session?", response: "One conversation." });
 *
 * A record is in this browser's queue (IndexedDB) before it is sent, and leaves it only with the service's answer. It
 * keeps its id, so sending it again never doubles it. What is still queued when a page ends is sent by the next page of
 * the same site that opens a log of the same service with the same key, or in the name of the same `project`.
 */

/**
 * What `Turnlog.open` takes; what isn't named here is a field of the session, as in `POST /v1/sessions`, in camelCase.
 * @typedef {object} Options
 * @property {string} url the service
 * @property {string} [key] a publishable key; or else:
 * @property {() => string | null | Promise<string | null>} [getUserToken] gives the signed-in user's token, asked for
 *   before each call, so that it may be renewed
 * @property {string} [project] your name for what the key logs into. Pages that state the same one share what waits and
 *   the sessions, whatever their keys, so that a new key goes on; pages that state none share them with the same key
 * @property {string} [sessionId] a UUID, or any text of yours. Without one the tab's last session goes on
 * @property {boolean} [fresh] begin a new session, whatever the tab's last one was
 * @property {string} [userId]
 * @property {string} [title]
 * @property {string[]} [tags]
 * @property {Record<string, unknown>} [metadata]
 * @property {boolean} [countTurns] number the interactions of this session, across tabs, so that gaps can be seen
 * @property {number} [maxRecords] the most that may wait in this browser
 * @property {number} [maxCharacters]
 * @property {(error: TurnlogError) => void} [onerror] told of what was refused or can't be kept; else the console is
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
 * @property {number} [costUsd]
 * @property {string} [participant]
 * @property {string} [replyTo]
 * @property {number} [turn]
 * @property {string[]} [tags]
 * @property {Record<string, unknown>} [metadata]
 */
/**
 * What somebody says of an interaction, as in `POST /v1/feedback`, in camelCase.
 * @typedef {object} FeedbackInput
 * @property {boolean | number | string} value
 * @property {string} [name] what is judged; of what one author says under one name the latest counts. "rating" if left out
 * @property {string} [comment]
 * @property {string | Date} [givenAt] now, if left out
 */
/** @typedef {{sessionId: string, interactionId: string, receipt: string, fields: string[]}} Receipt */
/**
 * `state`: all is delivered; a call is under way; one failed and is repeated at `retryAt`; the service refuses this page.
 * `records`: how many wait in this browser. `durable`: whether they survive a reload.
 * @typedef {{state: "idle" | "sending" | "waiting" | "refused", records: number, durable: boolean,
 *   retryAt: Date | null, error: TurnlogError | null}} Status
 */
/** @typedef {{ref: string, place: string, at: string, body: string, to?: "feedback"}} Kept a record in the queue */
/** @typedef {{ref: string, receipt?: Receipt, error?: Trouble}} Outcome */
/** @typedef {{detail: string, status?: number, problem?: any, record?: any, kept?: boolean}} Trouble */
/**
 * A session as this browser knows it. `fields`: to be stated when it is created. `gotAt`, `endsAt`: the token's, in ms.
 * @typedef {{at: string, name: string, key?: string, claim: string, fields: Record<string, unknown>, stated: boolean,
 *   token?: string, gotAt: number, endsAt: number, turns: number, usedAt: number}} Session
 */

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 60_000;
const PATIENCE_MS = 20_000; // a call that takes longer is repeated
const MOST_AT_ONCE = 100; // records in a call
const LARGEST_CALL = 1_000_000; // characters, which are 3 MB at most; the service takes 4
const OUTLIVING_BYTES = 60_000; // of calls that outlive their page; browsers allow 64 KiB
const TIE_MS = 1000; // of judgements that one moment brings about
const RENEW_MS = 300_000; // before a token ends
const FORGET_MS = 30 * 86_400_000; // sessions of this browser that nobody used and nothing waits for

/** What went wrong, in `message`. */
export class TurnlogError extends Error {
  /** @param {Trouble} trouble */
  constructor({ detail, status, problem, record, kept = false }) {
    super(detail);
    this.name = "TurnlogError";
    /** The answer's HTTP status, if there was one. */
    this.status = status;
    /** The service's problem details, or an item's receipt. */
    this.problem = problem;
    /** What was to be logged, as it was sent. */
    this.record = record;
    /** Whether the record still waits in this browser: it is sent again with the next one, or by the next page. */
    this.kept = kept;
  }
}

/** A failure that passes: the call is repeated. */
class Passing extends Error {
  /** @param {string} message @param {number} [pauseMs] how long the service asked to wait */
  constructor(message, pauseMs) {
    super(message);
    this.pauseMs = pauseMs;
  }
}

/** An answer that no repeat mends. */
class Refused extends Error {
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
  /** @type {Map<string, {kept: Kept, resolve: (receipt: Receipt) => void, reject: (error: TurnlogError) => void}>} */
  #waiting = new Map();
  /** @type {Set<string>} */ #underWay = new Set();
  /** @type {Set<Turn>} */ #turns = new Set();
  /** @type {Status["state"]} */ #state = "idle";
  /** @type {TurnlogError | null} */ #error = null;
  /** @type {Promise<void> | null} */ #delivery = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;
  #adding = 0;
  #judgedAt = 0;
  #again = false;
  #listing = false;
  #failures = 0;
  #notBefore = 0;
  #hasToWait = false; // the service named the time, so nothing shortens it
  #userToken = "";
  /** @type {Promise<unknown>} */ #added = Promise.resolve();
  /** @type {Set<string>} */ #hopeless = new Set();
  #ending = new AbortController();

  /**
   * Opens a log. It needs no connection: what is logged meanwhile waits in this browser.
   * @param {Options} options
   * @returns {Promise<Turnlog>}
   */
  static async open(options) {
    const { key, getUserToken } = options;
    const url = new URL(options.url).href.replace(/\/+$/, "");
    if (key?.startsWith("turnlog_sk_")) {
      throw new TypeError("That is a secret key: take it out of the page, revoke it, and use a publishable one");
    }
    if (key && !/^turnlog_pk_[0-9A-Za-z]{30}$/.test(key)) {
      throw new TypeError("`key` is no publishable key: `turnlog keys create --kind publishable` makes one");
    }
    for (const name of /** @type {const} */ (["sessionId", "userId"])) {
      if (!["undefined", "string"].includes(typeof options[name])) throw new TypeError(`\`${name}\` must be a text`);
    }
    if (!key === !getUserToken) throw new TypeError("Turnlog.open takes either `key` or `getUserToken`");
    const user = getUserToken ? userOf(await getUserToken()) : undefined;
    if (user === null) throw new TypeError("getUserToken gave no user's token: open the log after signing in");
    const place = placeOf(url, options, user);
    const queue = new Queue(options.maxRecords ?? 1000, options.maxCharacters ?? 16_000_000);
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
    this.#channel.onmessage = ({ data }) => this.#hear(data);
    const { signal } = this.#ending;
    addEventListener("online", () => this.#wake(true), { signal });
    addEventListener("pageshow", () => this.#wake(true), { signal });
    addEventListener("pagehide", (event) => this.#leave(!event.persisted), { signal });
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#leave(false) : this.#wake(true)), {
      signal,
    });
    queue.whenTroubled((detail) => this.#report({ detail }));
    this.#wake();
  }

  /** The session's id, or the text that it was opened by; keep it to go on with this session later. */
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
   * Logs an interaction. Settles when the service has answered for it, which while offline may take long: don't wait for
   * it before going on. A failure is told to `onerror` as well, so the promise may be left alone.
   * @param {Fields} fields
   * @returns {Promise<Receipt>}
   */
  interaction(fields) {
    // who names interactions may repeat them, and the time of the repeat would contradict the first
    const named = fields.interactionId ? {} : { interactionId: newId(), startedAt: new Date() };
    return this.#log({ ...named, ...fields }, true);
  }

  /**
   * Begins an interaction whose response is still to come: the prompt is logged at once.
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
    const turn = new Turn(interactionId, this.#log(all, true), say, (judgement) =>
      this.feedback({ interactionId, ...judgement }),
    );
    this.#turns.add(turn);
    return turn;
  }

  /**
   * Says something of an interaction of this session, or says it otherwise. Settles as `interaction` does.
   * @param {FeedbackInput & {interactionId: string}} judgement
   * @returns {Promise<Receipt>}
   */
  feedback(judgement) {
    // of two judgements the later counts, also within a millisecond; a clock that was set back is believed
    const now = Date.now();
    const isTie = now <= this.#judgedAt && this.#judgedAt - now < TIE_MS;
    this.#judgedAt = isTie ? this.#judgedAt + 1 : now;
    const givenAt = new Date(this.#judgedAt);
    const record = { session_id: this.#session.name, ...snakeCased({ givenAt, ...judgement }) };
    return this.#keep(record, false, "feedback");
  }

  /** Resolves once all that was logged so far is in the queue, where a reload can't take it away. */
  async kept() {
    await this.#added;
  }

  /** Sends what waits, now, unless the service asked for patience. @returns {Promise<Status>} */
  async flush() {
    await this.#added;
    this.#wake(true);
    await this.#delivery;
    return this.status;
  }

  /** Takes back what waits in this browser, as when somebody signs out. @returns {Promise<unknown[]>} the records */
  async discard() {
    const records = await this.#queue.discard(this.#place);
    this.#settle(records.map(({ ref, body }) => ({ ref, error: { detail: "Discarded", record: JSON.parse(body) } })));
    return records.map(({ body }) => JSON.parse(body));
  }

  /** Stops this log; what waits stays in the browser's queue. */
  close() {
    this.#ending.abort();
    clearTimeout(this.#timer);
    this.#channel.close();
  }

  /** @param {Fields} fields @param {boolean} counts whether it is a turn @returns {Promise<Receipt>} */
  #log(fields, counts) {
    const record = { session_id: this.#session.name, ...snakeCased(fields) };
    return this.#keep(record, Boolean(counts && this.#options.countTurns && fields.turn === undefined));
  }

  /** @param {Record<string, unknown>} record @param {boolean} count @param {"feedback"} [to] @returns {Promise<Receipt>} */
  #keep(record, count, to) {
    /** @type {Kept} */
    const kept = { ref: newId(), place: this.#place, at: this.#session.at, body: JSON.stringify(record), ...(to && { to }) };
    const promise = new Promise((/** @type {(receipt: Receipt) => void} */ resolve, reject) => {
      this.#waiting.set(kept.ref, { kept, resolve, reject });
      const added = this.#queue.add(kept, count ? record : null).finally(() => (this.#adding -= 1));
      const settled = added.then(
        () => this.#listing || this.#wake(), // the queue answers in order: who lists it now will see this one
        (error) => this.#settle([{ ref: kept.ref, error: { detail: `Not logged: ${error.message}`, record } }]),
      );
      this.#adding += 1;
      this.#added = Promise.all([this.#added, settled]);
    });
    promise.catch(() => undefined); // told to onerror
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
        // one tab at a time, and for one round only: a tab in the background may be slow
        await exclusively(`turnlog ${this.#place}`, () => this.#round());
        this.#failures = this.#notBefore = 0;
        this.#hasToWait = false;
      } catch (error) {
        this.#pause(/** @type {Error} */ (error));
        this.#tell({ notBefore: this.#notBefore, hasToWait: this.#hasToWait });
      }
    }
    this.#delivery = null;
    this.#changed();
  }

  async #round() {
    /** @type {Trouble | null} */ let refusal = null;
    for (const at of await this.#list()) {
      if (this.#hopeless.has(at)) continue;
      try {
        for (let kept; (kept = await this.#queue.next(at)).length;) {
          if (this.#ending.signal.aborted) return;
          this.#changed("sending");
          await this.#send(at, kept);
        }
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        await this.#refuse(at, error.trouble);
        if (error.trouble.kept) refusal = error.trouble;
        if (at !== this.#session.at) this.#hopeless.add(at); // another page may be luckier
      }
    }
    if (refusal) this.#report(refusal);
    else this.#error = null;
    this.#state = refusal ? "refused" : "idle";
  }

  /** @returns {Promise<string[]>} the sessions that something waits for, also what was added until now */
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

  /** @param {string} at @param {Kept[]} kept */
  async #send(at, kept) {
    const other = kept.findIndex(({ to }) => to);
    if (other >= 0 && kept.length > 1) {
      // what is no interaction has a call of its own
      for (const part of [kept.slice(0, other), [kept[other]], kept.slice(other + 1)]) {
        if (part.length) await this.#send(at, part);
      }
      return;
    }
    let answer = await this.#post(await this.#ready(at), kept);
    // a token may end earlier than this machine's clock says
    if (answer.status === 403) answer = await this.#post(await this.#ready(at, true), kept);
    const undated = answer.status === 422 && kept[0].to && (await undatedOf(answer.clone(), kept[0]));
    if (undated) answer = await this.#post(await this.#ready(at), [undated]);
    if (answer.ok) {
      await this.#finish(kept, await receiptsOf(answer, kept));
    } else if ([400, 409, 410, 413, 415, 422].includes(answer.status)) {
      if (kept.length === 1) return this.#finish(kept, [{ receipt: "rejected", ...(await jsonOf(answer)) }]);
      for (const one of kept) await this.#send(at, [one]); // which of them is meant?
    } else {
      throw new Refused(await troubleOf(answer, true));
    }
  }

  /** @param {Session} session @param {Kept[]} kept */
  async #post(session, kept) {
    const authorization = await this.#authorization(session);
    for (const { ref } of kept) this.#underWay.add(ref);
    try {
      return await this.#call(pathOf(kept), bodyOf(kept), authorization, session.token);
    } finally {
      for (const { ref } of kept) this.#underWay.delete(ref);
    }
  }

  /** @param {Kept[]} kept @param {any[]} receipts */
  async #finish(kept, receipts) {
    // told first: who dies in between leaves a record that is sent again, not a promise that never settles
    this.#settle(kept.map(({ ref, body }, index) => ({ ref, ...outcomeOf(receipts[index], body) })));
    await this.#queue.remove(kept);
    this.#failures = 0;
  }

  /**
   * Returns a session that may be appended to: created, and with a token that isn't over.
   * @param {string} at @param {boolean} [renew]
   * @returns {Promise<Session>}
   */
  async #ready(at, renew = false) {
    const session = (await this.#queue.session(at)) ?? this.#session;
    const now = Date.now();
    const over = session.endsAt - now < RENEW_MS && now - session.gotAt > LONGEST_PAUSE_MS;
    if (at === this.#session.at) this.#session = session;
    if (session.stated && !renew && !(session.key && over)) return session;
    let answer = await this.#open(session, session.stated ? {} : session.fields);
    if ([400, 409, 413, 422].includes(answer.status) && !session.stated && Object.keys(session.fields).length) {
      // a title that contradicts the stored one shall not cost the conversation
      const trouble = await troubleOf(answer);
      answer = await this.#open(session, {});
      if (answer.ok)
        this.#report({ ...trouble, detail: `The session is logged without its fields: ${trouble.detail}` });
    }
    // what is somebody else's, or erased, never takes these records
    if (!answer.ok) throw new Refused(await troubleOf(answer, answer.status !== 409 && answer.status !== 410));
    const { session_token: token, session_token_expires_at: end } = await jsonOf(answer);
    if (session.key && !token) throw new Passing("The service's answer has no session token");
    Object.assign(session, { stated: true, token, gotAt: now, endsAt: Date.parse(end) || now });
    await this.#queue.update(session);
    return session;
  }

  /** @param {Session} session @param {Record<string, unknown>} fields */
  async #open(session, fields) {
    const body = JSON.stringify({ session_id: session.name, ...fields });
    const claim = session.key ? session.claim : undefined;
    return this.#call("sessions", body, await this.#authorization(session), undefined, claim);
  }

  /** @param {Session} session @returns {Promise<string>} */
  async #authorization(session) {
    if (session.key) return session.key;
    const token = await this.#options.getUserToken?.();
    const user = userOf(token);
    if (!token || !user || placeOf(this.#url, this.#options, user) !== this.#place) {
      // what one user said is never sent in another's name
      throw new Refused({ detail: "Another user is signed in, or none", kept: true });
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
      // a beacon would outlive the page as well, but can't carry the key
      const keepalive = this.#failures === 0 && new Blob([body]).size <= OUTLIVING_BYTES;
      answer = await fetch(`${this.#url}/v1/${what}`, {
        method: "POST",
        body,
        keepalive,
        cache: "no-store",
        credentials: "omit",
        redirect: "error",
        signal: AbortSignal.timeout(PATIENCE_MS),
        headers: {
          Authorization: `Bearer ${authorization}`,
          "Content-Type": "application/json",
          ...(token && { "Turnlog-Session-Token": token }),
          ...(claim && { "Turnlog-Session-Claim": claim }),
        },
      });
    } catch (error) {
      throw new Passing(`${this.#url} can't be reached from this page: ${/** @type {Error} */ (error).message}`);
    }
    const { status } = answer;
    if (status === 408 || status === 429 || status >= 500) {
      throw new Passing(`The service answered ${status}`, pauseOf(answer.headers.get("Retry-After")));
    }
    if (status === 401 || status === 404) throw new Refused(await troubleOf(answer, true));
    return answer;
  }

  /** @param {Error} error */
  #pause(error) {
    const asked = error instanceof Passing ? error.pauseMs : undefined;
    const longest = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** this.#failures++);
    // at least what the service asked for, and not all pages at the same moment
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
    // all of it in this very moment: no promise is waited for before the call is made
    if (session.stated && authorization && !(this.#hasToWait && Date.now() < this.#notBefore)) {
      let room = OUTLIVING_BYTES - 100;
      const kept = [...this.#waiting.values()]
        .map((waiting) => waiting.kept)
        .filter(({ ref, body }) => !this.#underWay.has(ref) && (room -= new Blob([body]).size + 1) > 0);
      const interactions = kept.filter(({ to }) => !to);
      for (const part of [interactions, ...kept.filter(({ to }) => to).map((one) => [one])]) {
        if (part.length) this.#sendLast(part, authorization, session.token);
      }
    }
    if (forGood) this.#tell({ wake: true });
  }

  /** @param {Kept[]} kept @param {string} authorization @param {string} [token] */
  #sendLast(kept, authorization, token) {
    this.#call(pathOf(kept), bodyOf(kept), authorization, token)
      .then(async (answer) => this.#finish(kept, await receiptsOf(answer, kept)))
      .catch(() => this.#wake()); // it is in the queue, too
  }

  /** @param {any} message to this site's other tabs */
  #tell(message) {
    if (!this.#ending.signal.aborted) this.#channel.postMessage(message);
  }

  /** @param {any} message of another tab */
  #hear({ settled, notBefore, hasToWait, wake }) {
    if (settled) this.#settle(settled, false);
    if (notBefore > this.#notBefore) [this.#notBefore, this.#hasToWait] = [notBefore, hasToWait];
    if (wake || (notBefore && this.#waiting.size)) this.#wake();
  }

  /** @param {Outcome[]} outcomes @param {boolean} [ours] whether this tab brought them about; another may wait for them */
  #settle(outcomes, ours = true) {
    if (ours && outcomes.length) this.#tell({ settled: outcomes });
    for (const { ref, receipt, error } of outcomes) {
      const waiting = this.#waiting.get(ref);
      this.#waiting.delete(ref);
      if (receipt) waiting?.resolve(receipt);
      if (error) waiting?.reject(new TurnlogError(error));
      // what is kept is kept for one reason, which is told once
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

/** An interaction whose response is still to come. */
class Turn {
  #started = performance.now();
  /** @type {number | undefined} */ #firstToken;
  #text = "";
  #over = false;
  /** @type {(fields: Fields) => Promise<Receipt>} */ #say;
  /** @type {(judgement: FeedbackInput) => Promise<Receipt>} */ #judge;

  /** @param {string} interactionId @param {Promise<Receipt>} logged @param {(fields: Fields) => Promise<Receipt>} say
   *  @param {(judgement: FeedbackInput) => Promise<Receipt>} judge */
  constructor(interactionId, logged, say, judge) {
    this.interactionId = interactionId;
    /** The receipt of the prompt. */
    this.logged = logged;
    this.#say = say;
    this.#judge = judge;
  }

  /** Says something of this interaction, whether it is over or not. @param {FeedbackInput} judgement */
  feedback(judgement) {
    return this.#judge(judgement);
  }

  /** Adds to the response, and notes when its first part came. @param {string} text */
  append(text) {
    this.#firstToken ??= performance.now();
    this.#text += text;
  }

  /** Logs the response: what was appended, unless `fields` has one. @param {Fields} [fields] */
  complete(fields = {}) {
    return this.#end({
      response: this.#text,
      completedAt: new Date(),
      latencyMs: this.#since(performance.now()),
      ...fields,
    });
  }

  /** Logs that there will be no response, or not all of it. @param {unknown} error @param {Fields} [fields] */
  fail(error, fields = {}) {
    const said = error instanceof Error ? error.message || error.name : String(error);
    return this.#end({ status: "failed", error: said, response: this.#text || undefined, ...fields });
  }

  /** Logs that nobody waited for the end; so does a page that ends. @param {Fields} [fields] */
  abandon(fields = {}) {
    return this.#end({ status: "abandoned", response: this.#text || undefined, ...fields });
  }

  /** @param {Fields} fields */
  #end(fields) {
    if (this.#over) throw new Error("This interaction is over");
    this.#over = true;
    return this.#say({ timeToFirstTokenMs: this.#firstToken && this.#since(this.#firstToken), ...fields });
  }

  /** @param {number} moment */
  #since(moment) {
    return Math.round((moment - this.#started) * 10) / 10;
  }
}

/** What waits in this browser, and the sessions it belongs to; in this page's memory, where IndexedDB can't be had. */
class Queue {
  /** @type {Promise<IDBDatabase> | null} */ #database = null;
  /** @type {Map<string, Kept>} */ #records = new Map();
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

  /** @param {(detail: string) => void} tell */
  whenTroubled(tell) {
    this.#ontrouble = tell;
    if (this.#trouble) tell(this.#trouble);
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
      known = { at, name, claim: newClaim(), fields: {}, stated: false, gotAt: 0, endsAt: 0, turns: 0, usedAt: 0 },
    ) => ({
      ...known,
      key,
      fields: { ...fields, ...known.fields },
      stated: known.stated && Object.keys(fields).every((field) => field in known.fields),
      usedAt: now,
    });
    try {
      return await this.#transact("readwrite", async ({ sessions, records, places }) => {
        await this.#count(places, place);
        for (const { at, usedAt } of await ask(sessions.getAll())) {
          if (usedAt < now - FORGET_MS && !(await ask(records.index("at").count(at)))) sessions.delete(at);
        }
        const session = opened(await ask(sessions.get(at)));
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

  /** @param {string} at @returns {Promise<Session | undefined>} undefined if its user has cleared the browser's data */
  async session(at) {
    return this.#sessions.get(at) ?? this.#transact("readonly", ({ sessions }) => ask(sessions.get(at)));
  }

  /** @param {Session} session what became of its token */
  async update(session) {
    if (this.#sessions.has(session.at)) return void this.#sessions.set(session.at, session);
    await this.#transact("readwrite", async ({ sessions }) => {
      const { turns } = (await ask(sessions.get(session.at))) ?? session; // other tabs count, too
      sessions.put({ ...session, turns });
    });
  }

  /** @param {Kept} kept @param {Record<string, unknown> | null} turn the record, if its number is to be counted */
  async add(kept, turn) {
    const { place, at } = kept;
    /** @type {(session: Session) => void} */
    const count = (session) => void (kept.body = JSON.stringify({ ...turn, turn: ++session.turns }));
    if (!this.#sessions.has(at)) {
      try {
        return await this.#transact("readwrite", async ({ sessions, records, places }) => {
          if (turn) {
            const session = await ask(sessions.get(at));
            count(session);
            sessions.put(session);
          }
          const held = (await ask(places.get(place))) ?? { place, records: 0, characters: 0 };
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

  /** @param {string} place @returns {Promise<string[]>} the sessions that something waits for */
  async sessions(place) {
    /** @type {Set<string>} */ const found = new Set();
    if (!this.#sessions.size) {
      await this.#transact("readonly", async ({ records, places }) => {
        await this.#count(places, place);
        const range = IDBKeyRange.bound(`${place}\n`, `${place}\n\uffff`);
        const walk = records.index("at").openKeyCursor(range, "nextunique");
        for (let cursor; (cursor = await ask(walk)); cursor.continue()) found.add(String(cursor.key));
      });
    }
    for (const { at } of this.#records.values()) found.add(at); // last: one may have been added just now
    return [...found];
  }

  /** @param {IDBObjectStore} places @param {string} place where other pages add and take away, too */
  async #count(places, place) {
    this.#sizes.set(place, (await ask(places.get(place)))?.records ?? 0);
  }

  /** @param {string} at @param {number} [most] @returns {Promise<Kept[]>} the oldest, as many as go into a call */
  async next(at, most = MOST_AT_ONCE) {
    const loose = [...this.#records.values()].filter((kept) => kept.at === at);
    const limit = most === Infinity ? undefined : most;
    const found = this.#sessions.size
      ? []
      : await this.#transact("readonly", ({ records }) => ask(records.index("at").getAll(at, limit)));
    let room = limit ? LARGEST_CALL : Infinity;
    return [...found, ...loose].slice(0, limit).filter(({ body }, index) => (room -= body.length) > 0 || index === 0);
  }

  /** @param {Kept[]} kept */
  async remove(kept) {
    const stored = kept.filter(({ ref }) => !this.#records.delete(ref));
    if (!stored.length || this.#sessions.size) return;
    await this.#transact("readwrite", async ({ records, places }) => {
      const held = await ask(places.get(stored[0].place));
      for (const { ref, body } of stored) {
        if ((await ask(records.count(ref))) === 0) continue; // another tab was first
        records.delete(ref);
        held.records -= 1;
        held.characters -= body.length;
      }
      places.put(held);
      this.#sizes.set(held.place, held.records);
    });
  }

  /** @param {string} place @returns {Promise<Kept[]>} */
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
      transaction.onabort = () => reject(transaction.error ?? new Error("the browser gave up"));
    });
    done.catch(() => undefined); // awaited below, unless the work fails first
    const [sessions, records, places] = ["sessions", "records", "places"].map((name) => transaction.objectStore(name));
    try {
      const result = await work({ sessions, records, places });
      transaction.commit?.(); // at once: the page may be about to end
      await done;
      return result;
    } catch (error) {
      try {
        transaction.abort();
      } catch {
        // it is over already
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
      const database = await ask(request);
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
    this.#trouble = `What waits is lost when the page ends, as IndexedDB can't be used: ${/** @type {Error} */ (error).message}`;
    if (!known) this.#ontrouble(this.#trouble);
  }
}

class Full extends Error {}

/** @template T @param {IDBRequest<T>} request @returns {Promise<T>} */
function ask(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** @param {string} name @param {() => Promise<void>} work */
async function exclusively(name, work) {
  // there are no locks in pages without TLS; two tabs may send the same record then, which is stored once
  await (navigator.locks ? navigator.locks.request(name, work) : work());
}

/** @param {() => void} tell the page, whose mistakes are its own */
function guarded(tell) {
  try {
    tell();
  } catch (error) {
    reportError(error);
  }
}

/** @param {Kept[]} kept interactions, or something else alone */
function pathOf(kept) {
  return kept[0].to ?? "interactions/batch";
}

/** @param {Kept[]} kept */
function bodyOf(kept) {
  if (kept[0].to) return kept[0].body;
  return `{"interactions":[${kept.map(({ body }) => body).join()}]}`;
}

/** @param {Response} answer @returns {Promise<any>} */
async function jsonOf(answer) {
  return answer.json().catch(() => ({}));
}

/**
 * Returns feedback without its time, for the service to state, if it was refused for that and this machine's clock is ahead.
 * @param {Response} answer @param {Kept} kept @returns {Promise<Kept | undefined>}
 */
async function undatedOf(answer, kept) {
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

/** @param {Response} answer @param {Kept[]} kept @returns {Promise<any[]>} */
async function receiptsOf(answer, kept) {
  const told = await jsonOf(answer);
  const receipts = kept[0].to ? told.receipt && [told] : told.receipts;
  // somebody on the way may answer in the service's name, as hotels do
  if (!answer.ok || receipts?.length !== kept.length) throw new Passing(`The answer ${answer.status} is not the service's`);
  return receipts;
}

/** @param {any} receipt @param {string} body @returns {{receipt?: Receipt, error?: Trouble}} */
function outcomeOf(receipt, body) {
  const { session_id: sessionId, interaction_id: interactionId, receipt: outcome, fields = [] } = receipt;
  if (outcome !== "conflict" && outcome !== "rejected") {
    return { receipt: { sessionId, interactionId, receipt: outcome, fields } };
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

/** @param {string | null | undefined} token a JWT, which the service verifies @returns {string | null} whose it is */
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
 * @returns {string} where records wait: what is said to one project, or by one user, never gets to another
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

/** @param {object} fields @returns {Record<string, unknown>} as the API spells them */
function snakeCased(fields) {
  const stated = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries(
    stated.map(([name, value]) => [name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`), value]),
  );
}

/** @param {string} place @returns {string | null} the session that this tab had last */
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

/** @returns {string} what only this browser knows, so that nobody else gets a token for its session */
function newClaim() {
  return hex(crypto.getRandomValues(new Uint8Array(24)));
}

let lastTime = 0;
let inThisMs = 0;

/** @returns {string} a UUIDv7, greater than the one before: records have the order in which they were made */
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
