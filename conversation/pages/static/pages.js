// Progressive enhancements; every page works without them.
"use strict";

function enableCopyButtons() {
    if (!navigator.clipboard) return; // plain HTTP, except on localhost
    for (const button of document.querySelectorAll("button.copy")) button.hidden = false;
    document.addEventListener("click", async (event) => {
        const button = event.target.closest("button.copy");
        if (!button) return;
        await navigator.clipboard.writeText(button.parentElement.querySelector(".source").value);
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
}

// The overview counts the days of this zone, unless its URL names another. The first time, it has to be loaded again.
function tellTimeZone() {
    const overview = document.querySelector("[data-zone]");
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    if (!overview || !zone) return;
    const cookie = `turnlog_zone=${encodeURIComponent(zone)}`;
    const isKnown = () => document.cookie.split("; ").includes(cookie);
    if (isKnown()) return;
    document.cookie = `${cookie}; path=/; max-age=31536000; samesite=lax`;
    if (overview.dataset.zone && overview.dataset.zone !== zone && isKnown()) location.reload(); // not if cookies are blocked
}

enableCopyButtons();
tellTimeZone();
