// Keeps the first page of a list up to date: asks for it again every few seconds and puts in what changed.
// It waits while nobody sees the page, while something in the list is selected or held open, and when it is told to.
"use strict";

const EVERY_MS = 5000;
const SLOWER_MS = 30000; // after a failure
const GIVE_UP_MS = 10000;

function keepUpToDate(list) {
    const button = document.getElementById("live");
    const state = document.getElementById("live-state");
    const news = document.getElementById("live-news");
    const what = list.dataset.live;
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
        if (isBusy()) return schedule(EVERY_MS);
        try {
            const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(GIVE_UP_MS) });
            if (answer.redirected) return stop("Signed out: load the page again to go on.");
            if (!answer.ok) throw new Error(`status ${answer.status}`);
            const page = new DOMParser().parseFromString(await answer.text(), "text/html");
            if (on && !isBusy()) show(page.getElementById("list"));
            schedule(EVERY_MS);
        } catch {
            if (on) state.textContent = "Not up to date: the service doesn't answer. Trying again.";
            schedule(SLOWER_MS);
        }
    }

    function show(fresh) {
        const before = new Set(rowsOf(list).map((row) => row.id));
        const focused = list.contains(document.activeElement) ? placeOf(document.activeElement) : null;
        const seen = rowsOf(list).find((row) => row.getBoundingClientRect().bottom > 0);
        const top = seen?.getBoundingClientRect().top;
        put(fresh);
        // what somebody reads stays where it is, unless the top of the page is what they look at
        const still = seen && document.getElementById(seen.id);
        if (still && scrollY > 0) scrollBy({ top: still.getBoundingClientRect().top - top, behavior: "instant" });
        if (focused) find(focused)?.focus({ preventScroll: true });
        const added = rowsOf(list).filter((row) => !before.has(row.id));
        for (const row of added) row.classList.add("arrived");
        if (added.length) news.textContent = `${added.length} new ${what}${added.length > 1 ? "s" : ""}`;
        state.textContent = `Up to date at ${new Date().toISOString().slice(11, 19)}`;
    }

    // Rows that say the same stay the elements they are.
    function put(fresh) {
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

    function stop(why) {
        on = false;
        clearTimeout(timer);
        button.setAttribute("aria-pressed", "false");
        state.textContent = why;
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
    schedule(EVERY_MS);
}

const list = document.querySelector("#list[data-live]");
if (list) keepUpToDate(list);
