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

enableCopyButtons();
