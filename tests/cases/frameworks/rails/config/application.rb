require "rails"
require "action_controller/railtie"

class Hello < Rails::Application
  config.load_defaults 6.1
  config.eager_load = false
  config.hosts.clear
  config.secret_key_base = "of a test"
  routes.append { root to: "greetings#show" }
end

class GreetingsController < ActionController::Base
  def show
    render plain: "hello from rails"
  end
end

Hello.initialize!
