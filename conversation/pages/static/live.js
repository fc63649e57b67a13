// Updates the first page of a list: fetches it again every few seconds and replaces the rows that changed.
// It pauses while the tab is hidden, while something in the list is selected or expanded, and on the Live button.
"use strict";

const INTERVAL_MS = 5000;
const RETRY_MS = 30000; // after a failure
const TIMEOUT_MS = 10000;

function startLiveUpdates(list) {
    const button = document.getElementById("live");
    const state = document.getElementById("live-state");
    const announcement = document.getElementById("live-announcement");
    const itemName = list.dataset.live;
    let on = true;
    let timer;

    function isBusy() {
        const selection = getSelection();
        const selected = selection && !selection.isCollapsed && selection.containsNode(list, true);
        return document.hidden || selected || document.querySelector("dialog[open]") !== null
            || list.querySelector("details[open]") !== null;
    }

    function schedule(ms) {
        clearTimeout(timer);
        if (on) timer = setTimeout(refresh, ms);
    }

    async function refresh() {
        if (isBusy()) return schedule(INTERVAL_MS);
        try {
            const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
            if (answer.redirected) return stop("Signed out. Reload the page to sign in again.");
            if (answer.status === 503) return retry("the log can't be read now");
            if (!answer.ok) throw new Error(`status ${answer.status}`);
            const page = new DOMParser().parseFromString(await answer.text(), "text/html");
            if (on && !isBusy()) show(page.getElementById("list"));
            schedule(INTERVAL_MS);
        } catch {
            retry("the service doesn't respond");
        }
    }

    function retry(cause) {
        if (on) state.textContent = `Not up to date: ${cause}. Retrying.`;
        schedule(RETRY_MS);
    }

    function show(fresh) {
        const before = new Set(rowsOf(list).map((row) => row.id));
        const focused = list.contains(document.activeElement) ? placeOf(document.activeElement) : null;
        const anchor = rowsOf(list).find((row) => row.getBoundingClientRect().bottom > 0);
        const top = anchor?.getBoundingClientRect().top;
        replaceRows(fresh);
        // keep the scroll position relative to the first visible row, unless the page is scrolled to its top
        const moved = anchor && document.getElementById(anchor.id);
        if (moved && scrollY > 0) scrollBy({ top: moved.getBoundingClientRect().top - top, behavior: "instant" });
        if (focused) find(focused)?.focus({ preventScroll: true });
        const added = rowsOf(list).filter((row) => !before.has(row.id));
        for (const row of added) row.classList.add("arrived");
        if (added.length) announcement.textContent = `${added.length} new ${itemName}${added.length > 1 ? "s" : ""}`;
        state.textContent = `Updated at ${new Date().toISOString().slice(11, 19)}`;
    }

    // Unchanged rows keep their elements.
    function replaceRows(fresh) {
        const known = new Map(rowsOf(list).map((row) => [row.id, row]));
        for (const row of rowsOf(fresh)) {
            const old = known.get(row.id);
            if (!old) continue;
            old.classList.remove("arrived");
            if (!old.getAttribute("class")) old.removeAttribute("class");
            if (old.isEqualNode(row)) row.replaceWith(old);
        }
        list.replaceChildren(...fresh.childNodes);
    }

    function rowsOf(part) {
        return [...part.querySelectorAll("tr[id], li[id]")];
    }

    function placeOf(element) {
        return { row: element.closest("[id]")?.id, href: element.getAttribute("href") };
    }

    function find({ row, href }) {
        const within = (row && row !== list.id && document.getElementById(row)) || list;
        return [...within.querySelectorAll("a, button, summary")].find((each) => each.getAttribute("href") === href);
    }

    function stop(reason) {
        on = false;
        clearTimeout(timer);
        button.setAttribute("aria-pressed", "false");
        state.textContent = reason;
    }

    button.hidden = false;
    button.addEventListener("click", () => {
        if (on) return stop("Paused");
        on = true;
        button.setAttribute("aria-pressed", "true");
        state.textContent = "";
        refresh();
    });
    document.addEventListener("visibilitychange", () => {
        if (!document.hidden) schedule(0);
    });
    schedule(INTERVAL_MS);
}

const list = document.querySelector("#list[data-live]");
if (list) startLiveUpdates(list);
