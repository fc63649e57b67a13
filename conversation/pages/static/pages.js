// What is handier with JavaScript; every page works without it.
"use strict";

function offerToCopy() {
    if (!navigator.clipboard) return; // without TLS, and not on localhost
    for (const button of document.querySelectorAll("button.copy")) button.hidden = false;
    document.addEventListener("click", async (event) => {
        const button = event.target.closest("button.copy");
        if (!button) return;
        await navigator.clipboard.writeText(button.parentElement.querySelector(".source").value);
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
}

offerToCopy();
