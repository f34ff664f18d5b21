"use strict";
// Below the choice of a crontab, it in words: what django-celery-beat's own script does.
{
    const words = JSON.parse(document.getElementById("readable-crontabs").textContent);
    const choice = document.getElementById("id_crontab");
    const help = document.querySelector(".field-crontab .help");
    const translation = document.querySelector(".field-crontab_translation");
    if (translation) {
        translation.hidden = true;
    }
    if (choice && help) {
        const told = help.appendChild(document.createElement("div"));
        choice.addEventListener("change", () => {
            told.textContent = words[choice.value] ? `Translation: ${words[choice.value]}` : "";
        });
    }
}
