"""Hand-written customer-service cases from which `chats.py` combines questions and polite short answers."""

from __future__ import annotations

PRODUCTS = [
    "lamp", "kettle", "jacket", "pair of shoes", "book", "phone case", "toaster", "backpack", "clock", "blanket", "chair", "teapot",
    "headset", "keyboard", "raincoat", "watch", "radio", "desk", "bicycle pump", "set of cups",
]  # fmt: skip
SYSTEMS = [
    "You are a polite support agent of a small online shop. Answer in one to three short sentences.",
    "You help customers of a web shop. Be friendly and brief.",
    "You are the help desk of a delivery company. Be clear and kind.",
    "You answer questions of customers. If you need an order number, ask for it.",
]
OPENINGS = ["", "", "", "Hello, ", "Hi, ", "Good morning, ", "Excuse me, ", "Hello there, ", "Good evening, "]
SORRY = ["I am sorry about that.", "I am sorry to hear that.", "Sorry for the trouble.", "Please excuse the trouble."]
CLOSINGS = [
    "",
    "",
    "",
    "Is there anything else I can do for you?",
    "Thank you for your patience.",
    "Please write again if you need more help.",
]

CASES: list[tuple[list[str], list[str]]] = [
    (
        ["where is my {product}? I ordered it {days} days ago.", "my {product} has not arrived yet. It has been {days} days.",
         "I am still waiting for the {product} that I ordered {days} days ago."],
        ["{sorry} A delivery usually takes three to five working days. Please send me your order number and I will look for your {product}.",
         "{sorry} Could you give me the order number? Then I can see where the {product} is.",
         "{sorry} I will check with the carrier where your {product} is. What is your order number?"],
    ),
    (
        ["how can I return the {product}?", "I want to send back my {product}.", "I do not like the {product}. Can I return it?"],
        ["You can return the {product} within {window} days. Open your order, choose \"Return\" and print the label.",
         "Of course. Please pack the {product} well, add the return form and bring the parcel to a post office.",
         "Yes, you can. The return is free within {window} days after the {product} arrived."],
    ),
    (
        ["the {product} arrived broken.", "my {product} is damaged. What should I do?", "I opened the box and the {product} was broken."],
        ["{sorry} Please send us a photo of the {product} and we will send you a new one.",
         "{sorry} You can choose between a new {product} and your money back.",
         "{sorry} We will replace the {product} at no cost. Please keep the box until then."],
    ),
    (
        ["I got the wrong thing. I ordered a {product}.", "this is not the {product} that I ordered.", "you sent me something else instead of the {product}."],
        ["{sorry} We will send the right {product} today. You will get a free label for the wrong one.",
         "{sorry} Please tell me your order number and I will arrange an exchange for the {product}."],
    ),
    (
        ["when do I get my money back for the {product}?", "I returned the {product} {days} days ago. Where is my refund?",
         "how long does the refund for my {product} take?"],
        ["We pay the money back within {window} days after the {product} has reached us.",
         "A refund usually takes five to seven working days. You will get an email when the money for the {product} is on its way.",
         "I will check that. Please tell me the order number of the {product} so that I can find your refund."],
    ),
    (
        ["can I cancel my order {order}?", "please cancel order {order}.", "I made a mistake. I do not want order {order} any more."],
        ["I have cancelled order {order}. You will not be charged.",
         "Order {order} has not left yet, so I can cancel it. You will get an email in a few minutes.",
         "If order {order} has already been sent, please refuse the parcel or return it for free."],
    ),
    (
        ["what is the status of order {order}?", "has order {order} been sent?", "can you look up order {order}?"],
        ["Order {order} has been packed and will leave our warehouse {when}.",
         "Order {order} is on its way and should arrive {when}.",
         "Order {order} is waiting for the payment. It will be sent as soon as the payment arrives."],
    ),
    (
        ["I have a new address for order {order}.", "can you send order {order} to another address?", "my address in order {order} is wrong."],
        ["Please write the full new address and I will change it in order {order}.",
         "Order {order} has not been sent yet, so the address can still be changed. What is the new address?"],
    ),
    (
        ["I forgot my password.", "I cannot log in any more.", "how do I reset my password?", "my password does not work.", "I am locked out of my account."],
        ["Click on \"Forgot password\" on the login page. We will send you a link to choose a new one.",
         "Please use the link \"Forgot password\". The email should arrive within a few minutes; look in the spam folder as well.",
         "No problem. Enter your email address on the login page and choose \"Reset password\"."],
    ),
    (
        ["I did not get the email with the link.", "no confirmation email has arrived.", "where is the email that you sent me?"],
        ["Please look in your spam folder first. If it is not there, I will send it again.",
         "It can take up to {few} minutes. If nothing comes, please check that the address is spelled correctly."],
    ),
    (
        ["how do I change my email address?", "can I change the name on my account?", "how can I change my phone number?"],
        ["Open your account, choose \"Personal details\" and press \"Edit\". Do not forget to save.",
         "You can change it under \"Settings\". We will ask you for your password to keep the account safe."],
    ),
    (
        ["please delete my account.", "I want to close my account.", "how can I remove my account?"],
        ["You can close the account under \"Settings\". All your details will be deleted after {window} days.",
         "I can do that for you. Please note that open orders must be finished first."],
    ),
    (
        ["my card was declined.", "the payment does not work.", "I cannot pay with my card."],
        ["{sorry} Please check the number and the date of the card, or try another way to pay.",
         "{sorry} Your bank may have stopped the payment. A short call to the bank usually helps."],
    ),
    (
        ["I was charged twice for the {product}.", "why was the {product} charged two times?", "there are two payments for one {product}."],
        ["{sorry} One of the two payments is often only reserved and disappears after a few days. If not, we will pay it back.",
         "{sorry} Please send me the date of both payments for the {product} and I will return the second one."],
    ),
    (
        ["can I have an invoice for order {order}?", "where do I find the invoice of order {order}?", "I need a receipt for order {order}."],
        ["You find the invoice in your account under order {order}. I can also send it to you by email.",
         "Certainly. I have sent the invoice for order {order} to your email address."],
    ),
    (
        ["do you have the {product} in blue?", "is the {product} available in another colour?", "which colours does the {product} have?"],
        ["The {product} is available in blue, red and grey.", "At the moment we only have the {product} in black and white.",
         "Blue is sold out, but it should be back {when}."],
    ),
    (
        ["is the {product} in stock?", "when will the {product} be available again?", "do you still sell the {product}?"],
        ["Yes, the {product} is in stock and can be sent today.", "The {product} is sold out. We expect it back {when}.",
         "Only {few} pieces of the {product} are left, so please order soon."],
    ),
    (
        ["how much does delivery cost?", "what do you charge for shipping?", "is the delivery free?"],
        ["Delivery costs {price} euros. It is free for orders over {over} euros.",
         "For orders over {over} euros the delivery is free. Otherwise it costs {price} euros."],
    ),
    (
        ["when are you open?", "what are your opening hours?", "can I call you at the weekend?"],
        ["We are here from Monday to Friday, from {few} in the morning until six in the evening.",
         "Our team answers from nine to five on working days. At the weekend you can write to us and we will answer on Monday."],
    ),
    (
        ["I want to speak with a person.", "can I talk to a human?", "please connect me with somebody."],
        ["Of course. Please wait a moment while I connect you with a colleague.",
         "I understand. A colleague will call you back {when}. Which number may we use?"],
    ),
    (
        ["how do I cancel my subscription?", "I want to end my subscription.", "please stop the monthly payment."],
        ["You can end the subscription in your account under \"Plans\". It stops at the end of the month.",
         "I have ended the subscription. You can use it until the last day of this month."],
    ),
    (
        ["the app crashes when I open it.", "your app does not start.", "the app is very slow."],
        ["{sorry} Please install the newest update and start your phone again.",
         "{sorry} Which phone do you use? An update of the app often helps."],
    ),
    (
        ["my discount code does not work.", "the voucher is not accepted.", "why can I not use my voucher?"],
        ["{sorry} Please check that the code is typed correctly and that the date is still valid.",
         "The code works for orders over {over} euros. Perhaps your basket is a little below that."],
    ),
    (
        ["how long is the warranty of the {product}?", "my {product} stopped working. Is there a warranty?", "does the {product} have a guarantee?"],
        ["The {product} has a warranty of two years. Please keep the receipt.",
         "Within two years we repair or replace the {product} at no cost."],
    ),
    (
        ["a part of the {product} is missing.", "there was one piece too few in the box of the {product}.", "I cannot find the manual of the {product}."],
        ["{sorry} Please tell me what is missing and I will send it to you at once.",
         "{sorry} I will send the missing part of the {product} today. It should arrive {when}."],
    ),
    (
        ["somebody else got my parcel.", "the parcel is marked as delivered, but I do not have it.", "my parcel was stolen."],
        ["{sorry} Please ask your neighbours first. If nobody has it, we will start a search with the carrier.",
         "{sorry} I have opened a case. You will hear from us within {few} days."],
    ),
    (
        ["thank you for your help!", "thanks, that worked.", "great, the {product} is here. Thank you!"],
        ["You are welcome!", "I am glad that I could help. Have a nice day!", "That is good to hear. Thank you for telling us."],
    ),
    (
        ["this is the third time that I write to you!", "nobody answers my messages. I am angry!", "your service is terrible."],
        ["{sorry} I understand that you are upset. Please tell me your order number and I will take care of it now.",
         "{sorry} You should not have to write so often. I will stay with your case until it is solved."],
    ),
    (
        ["can you wrap the {product} as a gift?", "the {product} is a present. Can you add a card?", "do you offer gift wrapping for the {product}?"],
        ["Yes. Choose \"Gift\" in the basket; it costs {price} euros.", "Of course. Please write the text for the card in the field for notes."],
    ),
    (
        ["can I pick up the {product} in a shop?", "is there a shop where I can see the {product}?", "can I collect my {product} myself?"],
        ["Yes, choose \"Pick up\" in the basket. We write to you when the {product} is ready.",
         "We have a small shop in town. The {product} can be collected there {when}."],
    ),
]  # fmt: skip
